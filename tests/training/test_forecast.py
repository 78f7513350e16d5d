"""The forecast at the start of a run."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
from rich.console import Console

from maesil.presets import PRESETS
from maesil.presets.baselines import baseline
from maesil.runs.advice import cpu_advice, cpu_warning
from maesil.training.config import EfficiencyConfig
from maesil.training.forecast import Forecast


def said(
    monkeypatch: pytest.MonkeyPatch, step_s: float, steps: int, *, accumulate: int = 1, first: int = 0
) -> list[str]:
    """What is printed after each micro-batch, for steps of a duration; the first takes ten times as long."""
    clock = [0.0]
    monkeypatch.setattr("maesil.training.forecast.time.monotonic", lambda: clock[0])
    out = io.StringIO()
    forecast = Forecast(Console(file=out, width=200), lambda seconds: "buy a GPU" if seconds > 86400 else "")
    trainer, module = Mock(spec=pl.Trainer), Mock(spec=pl.LightningModule)
    trainer.is_global_zero, trainer.accumulate_grad_batches, trainer.max_steps = True, accumulate, steps
    lines = []
    for number in range(10 * accumulate):
        clock[0] += step_s / accumulate * (10 if number < accumulate else 1)
        trainer.global_step = first + (number + 1) // accumulate
        forecast.on_train_batch_end(trainer, module, None, None, number)
        lines.append(out.getvalue())
    return lines


@pytest.mark.parametrize("accumulate", [1, 3])
def test_forecast__after_the_first_steps_without_the_warm_up(monkeypatch: pytest.MonkeyPatch, accumulate: int) -> None:
    lines = said(monkeypatch, 1.0, 50_000, accumulate=accumulate)
    assert lines[4 * accumulate - 2] == ""
    assert lines[-1] == lines[4 * accumulate - 1] == "50,000 steps, about 13 h 53 min left (1 s per step)\n"


def test_forecast__of_steps_of_minutes_comes_with_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = said(monkeypatch, 120.0, 50_000)
    assert lines[0] == ""
    assert lines[1] == lines[-1] == "50,000 steps, about 69 d 11 h left (1.2e+02 s per step); buy a GPU\n"


def test_forecast__of_a_resumed_run_is_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "50,000 steps, about 2 h 47 min left" in said(monkeypatch, 1.0, 50_000, first=40_000)[-1]


def test_forecast__short_runs_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, 0.1, 100)[-1] == ""


def test_cpu_advice__names_a_smaller_preset_where_days_are_left() -> None:
    base, demo = PRESETS["base"](), PRESETS["demo"]()
    assert "use a smaller preset (`maesil pretrain demo" in cpu_advice(base, "cpu", 11 * 86400.0)
    assert cpu_advice(base, "cpu", 3600.0) == cpu_advice(base, "gpu", 1e7) == ""
    assert cpu_advice(demo, "cpu", 1e7) == "on a CPU, use fewer --train.steps, or a GPU"


def test_cpu_warning__comes_before_a_first_step_that_takes_minutes() -> None:
    """About 2 TFLOP for each of 3.2 million superpatches, at 0.14 TFLOP/s: 530 days, to within a fifth."""
    on_cpu = EfficiencyConfig(accelerator="cpu", threads=1)
    paper, demo = (replace(PRESETS[name](), efficiency=on_cpu) for name in ("paper", "demo"))
    warning = cpu_warning(paper)
    days = int(re.match(r"this run may take (\d+) d", warning)[1])  # type: ignore[index]
    assert days == pytest.approx(2e12 * 3.2e6 / 1.4e11 / 86400, rel=0.2)
    assert warning.endswith("fewer --train.steps, or a GPU")
    assert cpu_warning(demo) == cpu_warning(replace(paper, train=replace(paper.train, steps=10))) == ""
    assert cpu_warning(baseline("vae", paper)) == "", "its operations are not counted in advance"
