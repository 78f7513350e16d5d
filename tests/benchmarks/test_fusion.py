"""The benchmark of the fusion runs, on small superpatches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import fusion
from benchmarks.harness import race
from conftest import TINY_MODEL
from maesil.masking import DualMasking
from maesil.models.fusion import FusionConfig


def test_contenders__train_what_they_say() -> None:
    model = replace(TINY_MODEL, head="overlap", visible_head=True, fusion=FusionConfig(width=4))
    torch.manual_seed(0)
    made = fusion.contenders(model, DualMasking(), 2, "cpu")
    timed = race(made, rounds=1)
    assert list(timed) == [fusion.NETWORK, "plain network", fusion.FUSION, fusion.FILL]
    assert all(timing.median_s > 0 for timing in timed.values())


def test_stepping__changes_only_what_is_trained() -> None:
    trained, frozen = torch.nn.Linear(2, 1), torch.nn.Linear(2, 2)
    before = [each.detach().clone() for each in (*trained.parameters(), *frozen.parameters())]
    fusion.stepping(trained, lambda: trained(frozen(torch.ones(1, 2))).sum())()
    moved = [not torch.equal(a, b) for a, b in zip(before, (*trained.parameters(), *frozen.parameters()), strict=True)]
    assert moved == [True, True, False, False]


@pytest.mark.parametrize("words", [["--preset", "paper"]])
def test_main__refuses_presets_without_a_fusion(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fusion.main(words)
    assert "invalid choice: 'paper'" in capsys.readouterr().err
