"""A run that was killed ends with the same bytes as one that was not."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from maesil import pipeline
from maesil.config import RunConfig
from maesil.errors import ConfigError, TrainingError
from maesil.models.fusion import FusionConfig
from maesil.models.mae import MAEConfig
from maesil.runs.checkpoints import steps_done
from maesil.training.logs import curve
from ranks import launch

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while steps_done(run) < step:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "model.safetensors").read_bytes()


@pytest.fixture
def long_config(tiny_config: RunConfig) -> RunConfig:
    """Long enough to be killed in the middle of a pass, and in both stages; accumulation on."""
    train = replace(tiny_config.train, steps=60, accumulate=2)
    monitor = replace(tiny_config.monitor, checkpoint_every=5, validate_every=10)
    assert isinstance(tiny_config.model, MAEConfig)
    model = replace(tiny_config.model, fusion=FusionConfig(width=2, share=0.6))
    return replace(tiny_config, model=model, train=train, monitor=monitor)


@pytest.mark.slow
def test_pretrain__resumed_after_sigkill_is_bit_equal(long_config: RunConfig, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    assert pipeline.pretrain(long_config, undisturbed).status == "finished"

    killed = tmp_path / "killed"
    for step in (11, 33):
        process = launch(long_config, killed, 1, watched={"step": step, "do": "kill"})
        process.communicate(timeout=200)
        assert process.returncode == -signal.SIGKILL
        assert steps_done(killed) == step // 5 * 5
    outcome = pipeline.pretrain(long_config, killed)

    assert outcome.status == "finished"
    assert weights(killed) == weights(undisturbed)
    expected, resumed = (curve(run / "logs" / "metrics.csv", "loss") for run in (undisturbed, killed))
    assert resumed == expected
    assert pipeline.pretrain(long_config, killed).status == "already finished"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_pretrain__stops_cleanly_on_a_signal(long_config: RunConfig, tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    config = replace(long_config, train=replace(long_config.train, steps=100_000))
    process = launch(config, run, 1)
    wait_for_step(run, 5, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "the same command resumes it" in errors
    assert steps_done(run) >= 5


def test_pretrain__gives_the_signals_back(tiny_config: RunConfig, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    good = replace(tiny_config, train=replace(tiny_config.train, steps=2))
    pipeline.pretrain(good, tmp_path / "good")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    bad = replace(good, train=replace(good.train, peak_lr=1e30, clip_norm=None, warmup=0.0, steps=50))
    with pytest.raises(TrainingError):
        pipeline.pretrain(bad, tmp_path / "bad")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_pretrain__goes_on_with_other_micro_batches_of_one_global_batch(tiny_config: RunConfig, tmp_path: Path) -> None:
    one = replace(tiny_config, train=replace(tiny_config.train, steps=2, batch=2, accumulate=1))
    pipeline.pretrain(one, tmp_path / "run")
    several = replace(one, train=replace(one.train, batch=1, accumulate=2))
    assert pipeline.pretrain(several, tmp_path / "run").status == "already finished"
    smaller = replace(one, train=replace(one.train, batch=1))
    with pytest.raises(ConfigError, match=r"train\.accumulate"):
        pipeline.pretrain(smaller, tmp_path / "run")


def test_pretrain__refuses_other_settings_in_an_old_run(tiny_config: RunConfig, tmp_path: Path) -> None:
    short = replace(tiny_config, train=replace(tiny_config.train, steps=2))
    pipeline.pretrain(short, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"seed") as caught:
        pipeline.pretrain(replace(short, seed=1), tmp_path / "run")
    assert "another --run" in str(caught.value)
    faster = replace(short, efficiency=replace(short.efficiency, resident_gib=1.0))
    assert pipeline.pretrain(faster, tmp_path / "run").status == "already finished"
