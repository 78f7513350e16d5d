"""Pre-training on two processes (gloo, on the CPU), through the recipe's own launcher."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from maesil.config import RunConfig
from maesil.runs import steps_done
from ranks import assert_same, finish, launch, on, wait_for_step

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


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
