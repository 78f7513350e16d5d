"""The forecast at the start of a run."""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
from rich.console import Console

from maesil.cores import OtherLoad
from maesil.presets import PRESETS
from maesil.presets.baselines import baseline
from maesil.runs.advice import cpu_advice, cpu_warning, sharing_advice
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
    assert "use a smaller preset (`maesil pretrain small ...`)" in cpu_advice(base, "cpu", 11 * 86400.0)
    assert cpu_advice(base, "cpu", 3600.0) == cpu_advice(base, "gpu", 1e7) == ""
    assert cpu_advice(demo, "cpu", 1e7) == "on a CPU, use fewer --train.steps, or a GPU"


def test_sharing_advice__where_threads_have_no_core_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maesil.runs.advice.available_cores", lambda: 4)
    told = "other programs use 1.2 of 4 cores: --efficiency.threads 3 may be many times faster"
    assert sharing_advice(4, 1.2) == told
    assert sharing_advice(4, 9.0).startswith("other programs use 9.0 of 4 cores: --efficiency.threads 1 ")
    assert sharing_advice(3, 1.2) == sharing_advice(4, 0.3) == sharing_advice(4, None) == sharing_advice(1, 4.0) == ""


def test_other_load__is_what_others_used_and_not_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat, clock, own = tmp_path / "stat", [0.0], [0.0]
    ticks = os.sysconf("SC_CLK_TCK")

    def busy(*cores: int) -> None:
        """Cores 0 and 1 are this process's; half of their time is that of nice programs."""
        lines = [f"cpu{number} {s * ticks // 2} {s * ticks // 2} 0 777 0 0 0 0" for number, s in enumerate(cores)]
        stat.write_text("\n".join(["cpu 1 2 3 4 5 6 7 8", *lines, "intr 5"]))

    monkeypatch.setattr("maesil.cores.STAT", stat)
    monkeypatch.setattr("maesil.cores.os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr("maesil.cores.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("maesil.cores.time.process_time", lambda: own[0])
    busy(100, 100, 100)
    load = OtherLoad()
    clock[0], own[0] = 10.0, 8.0
    busy(110, 110, 999)
    assert load.cores() == pytest.approx(1.2)
    stat.unlink()
    assert load.cores() is None


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
