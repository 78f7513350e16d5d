"""What a person sees of a training where there is no terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from conftest import TINY_MODEL
from maesil import pipeline, progress
from maesil.config import RunConfig
from maesil.models.fusion import FusionConfig
from maesil.training.live_progress import facts
from maesil.training.logs import curve


def shown_by(config: RunConfig, run: Path, log_every: int) -> str:
    """What a training prints that logs as often."""
    shown = io.StringIO()
    config = replace(config, monitor=replace(config.monitor, log_every=log_every))
    pipeline.pretrain(config, run, console=Console(file=shown, width=200))
    return shown.getvalue()


def test_live_progress__a_validated_step_shows_its_own_score(tiny_config: RunConfig, tmp_path: Path) -> None:
    shown = shown_by(tiny_config, tmp_path / "run", log_every=1)
    scored = dict(re.findall(r"step (\d+)/12 .* held-out (-?[\d.]+) dB  ", shown))
    steps, scores = curve(tmp_path / "run" / "logs" / "metrics.csv", "val_psnr_masked")
    assert steps == [4, 8, 12]
    assert [scored[str(step)] for step in steps] == [f"{score:.2f}" for score in scores]
    assert len(re.findall(r"^step ", shown, re.MULTILINE)) == 12


def test_live_progress__lines_are_of_steps_whose_loss_is_logged(tiny_config: RunConfig, tmp_path: Path) -> None:
    shown = shown_by(tiny_config, tmp_path / "run", log_every=5)
    losses_shown = dict(re.findall(r"step (\d+)/12  loss ([\d.]+)", shown))
    steps, losses = curve(tmp_path / "run" / "logs" / "metrics.csv", "loss")
    assert list(losses_shown) == ["5", "10", "12"]
    by_step = dict(zip(steps, losses, strict=True))
    assert [losses_shown[str(step)] for step in (5, 10)] == [f"{by_step[step]:.4f}" for step in (5, 10)]


def test_live_progress__names_the_part_that_alone_learns(tiny_config: RunConfig, tmp_path: Path) -> None:
    """Its loss is another than the network's: a jump of the number is no fault of the training."""
    fused = replace(TINY_MODEL, fusion=FusionConfig(width=4, share=0.25))
    shown = shown_by(replace(tiny_config, model=fused), tmp_path / "run", log_every=1)
    named = re.findall(r"step (\d+)/12  loss of the fusion ", shown)
    assert [int(step) for step in named] == [10, 11, 12]


def test_facts__an_older_held_out_score_says_of_when() -> None:
    metrics = {"loss": 0.5, "val_psnr_masked": 18.29, "unknown": 1.0}
    assert facts(metrics, step=120, validated=120, logged=120) == "loss 0.5000  held-out 18.29 dB"
    assert facts(metrics, step=120, validated=100, logged=120) == "loss 0.5000  held-out 18.29 dB (step 100)"
    fused = facts(metrics, step=120, validated=120, logged=120, part="fusion")
    assert fused == "loss of the fusion 0.5000  held-out 18.29 dB"
    assert facts(metrics, step=126, validated=126, logged=120) == "loss 0.5000 (step 120)  held-out 18.29 dB"


def test_live_progress__a_slow_run_is_never_silent_for_long(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step takes longer than the longest silence, and only the tenth would have a line."""
    monkeypatch.setattr(progress, "LONGEST_SILENCE_S", 0.0)
    lines = [line for line in shown_by(tiny_config, tmp_path / "run", log_every=10).splitlines() if "step " in line]
    assert [line.split()[1] for line in lines] == [f"{step}/12" for step in range(1, 13)]
    assert all(re.search(r"about \d+ s left$", line) for line in lines[:-1])
    assert "left" not in lines[-1]


def test_live_progress__a_run_shorter_than_the_interval_shows_its_loss(tiny_config: RunConfig, tmp_path: Path) -> None:
    assert re.search(r"step 12/12  loss [\d.]+", shown_by(tiny_config, tmp_path / "run", log_every=20))
