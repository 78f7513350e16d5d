"""Weights & Biases as a further logger: another project's package, which most environments lack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning.loggers
from pytorch_lightning.loggers import Logger

from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig
from maesil.errors import MissingExtraError

MADE: list[dict[str, Any]] = []
ROWS: list[tuple[int | None, set[str]]] = []
FINISHED: list[str] = []


class FakeWandb(Logger):
    """Takes what Lightning's logger takes, and keeps it."""

    name, version = "fake", None

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        MADE.append(settings)
        self.experiment = self

    def finish(self) -> None:
        FINISHED.append(MADE[-1]["id"])

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        ROWS.append((step, set(metrics)))


def logged(config: RunConfig, steps: int) -> RunConfig:
    monitor = replace(config.monitor, wandb="chests", validate_every=0, log_every=1)
    return replace(config, monitor=monitor, train=replace(config.train, steps=steps))


def test_pretrain__logs_to_wandb_under_one_id(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    monkeypatch.setattr(pytorch_lightning.loggers, "WandbLogger", FakeWandb)
    for kept in (MADE, ROWS, FINISHED):
        kept.clear()
    run = tmp_path / "run"
    for steps in (1, 2):
        pipeline.pretrain(logged(tiny_config, steps), run)
    assert [each["project"] for each in MADE] == ["chests", "chests"]
    assert [MADE[0]["id"], MADE[1]["id"]] == FINISHED
    assert MADE[0]["id"] == MADE[1]["id"]
    assert MADE[0]["config"]["config"]["train"]["peak_lr"] == 1e-3
    assert [step for step, _ in ROWS] == [1, 2]
    assert all({"loss", "learning_rate"} <= names for _, names in ROWS)


def test_pretrain__without_wandb_names_the_extra(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"(?s)'wandb'.*pip install -e '\.\[wandb\]'"):
        pipeline.pretrain(logged(tiny_config, 1), tmp_path / "run")


def test_pretrain__without_wandb_is_told_before_anything_is_written(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr("maesil.extras.find_spec", lambda name: None)
    run = tmp_path / "run"
    words = ["pretrain", "demo", "--data.store", str(tiny_store), "--run", str(run), "--monitor.wandb", "chests"]
    assert main(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'wandb', which is not installed" in said
    assert "pip install -e '.[wandb]'" in said
    assert not run.exists()


@pytest.mark.interop
def test_pretrain__wandb_itself_takes_it_offline(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    pipeline.pretrain(logged(tiny_config, 2), tmp_path / "run")
    assert list((tmp_path / "run" / "logs" / "wandb").glob("offline-run-*/*.wandb"))
