"""Pre-training on two processes (gloo, on the CPU), through the recipe's own launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from maesil.config import RunConfig, dump_yaml
from maesil.runs import steps_done

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def config(tiny_config: RunConfig) -> RunConfig:
    """Eight steps of four superpatches."""
    train = replace(tiny_config.train, steps=8, batch=2, peak_lr=1e-3)
    monitor = replace(tiny_config.monitor, validate_every=0, checkpoint_every=8, log_every=1)
    return replace(tiny_config, train=train, monitor=monitor)


def on(config: RunConfig, world: int) -> RunConfig:
    """The same global batch on `world` processes: what one does after the other, two do at once."""
    train = replace(config.train, accumulate=2 // world)
    return replace(config, train=train, efficiency=replace(config.efficiency, devices=world))


def launch(config: RunConfig, run: Path, world: int) -> subprocess.Popen[str]:
    settings = run.with_suffix(f".{world}.yaml")
    settings.write_text(dump_yaml(config))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)] if world > 1 else []
    # Without "--", torchrun takes --run for an option of its own.
    command = [
        sys.executable,
        *launcher,
        "-m",
        *(["--"] if launcher else []),
        "maesil",
        "pretrain",
        "--config",
        str(settings),
        "--run",
        str(run),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last" / "model.safetensors")


def assert_same(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=2e-5, msg=name)


def test_pretrain__two_processes_train_as_one(config: RunConfig, tmp_path: Path) -> None:
    finish(launch(on(config, 1), tmp_path / "one", 1))
    finish(launch(on(config, 2), tmp_path / "two", 2))
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_pretrain__a_stopped_run_goes_on_on_another_number_of_ranks(
    config: RunConfig, tmp_path: Path, before: int, after: int
) -> None:
    config = replace(config, train=replace(config.train, steps=200))
    finish(launch(on(config, 1), tmp_path / "one", 1))
    process = launch(on(config, before), tmp_path / "moved", before)
    wait_for_step(tmp_path / "moved", 8, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    assert 8 <= steps_done(tmp_path / "moved") < 200
    finish(launch(on(config, after), tmp_path / "moved", after))
    assert steps_done(tmp_path / "moved") == 200
    assert_same(tmp_path / "one", tmp_path / "moved")


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 150
    while steps_done(run) < step:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_pretrain__a_rank_that_dies_ends_the_job_and_the_run_resumes(config: RunConfig, tmp_path: Path) -> None:
    two = on(config, 2)
    long = replace(two, train=replace(two.train, steps=200))
    process = launch(long, tmp_path / "run", 2)
    wait_for_step(tmp_path / "run", 8, process)
    ranks = [child for child in psutil.Process(process.pid).children() if "pretrain" in child.cmdline()]
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=120)  # an end, not a hang
    assert process.returncode != 0
    assert "exitcode" in errors
    at = steps_done(tmp_path / "run")
    assert 8 <= at < 200
    finish(launch(long, tmp_path / "run", 2))
    assert steps_done(tmp_path / "run") == 200
