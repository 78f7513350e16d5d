"""Comparisons that train in the test's own process: a process of their own loads libraries for ten seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from maesil import pipeline
from maesil.comparison import experiment
from maesil.config import load_yaml


@pytest.fixture(autouse=True)
def _trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_child.py` and the tests of the command show the process of its own."""

    def pretrain_here(config: Path, run: Path) -> None:
        pipeline.pretrain(load_yaml(config), run)

    monkeypatch.setattr(experiment, "pretrain_apart", pretrain_here)
