"""Pre-training on two processes (gloo, on the CPU), through the recipe's own launcher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from maesil.config import RunConfig
from maesil.models.fusion import FusionConfig
from maesil.models.mae import MAEConfig
from maesil.runs.checkpoints import steps_done
from ranks import assert_same, finish, launch, on, train_here

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def with_fusion(config: RunConfig) -> RunConfig:
    """Half of the steps train the network, and the others its fusion."""
    assert isinstance(config.model, MAEConfig)
    return replace(config, model=replace(config.model, fusion=FusionConfig(width=2, share=0.5)))


def test_pretrain__two_processes_train_as_one(config: RunConfig, tmp_path: Path) -> None:
    train_here(config, tmp_path / "one")
    finish(launch(on(config, 2), tmp_path / "two", 2))
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_pretrain__a_stopped_run_goes_on_on_another_number_of_ranks(
    config: RunConfig, tmp_path: Path, before: int, after: int
) -> None:
    """Two are stopped through their launcher, as SLURM does."""
    config = with_fusion(replace(config, train=replace(config.train, steps=24)))
    train_here(config, tmp_path / "one")
    watched = {"step": 3, "do": "stop job" if before > 1 else "stop"}
    stopped = launch(on(config, before), tmp_path / "moved", before, watched)
    _, errors = stopped.communicate(timeout=200)
    assert stopped.returncode != 0, errors
    assert 3 < steps_done(tmp_path / "moved") < 24, errors
    finish(launch(on(config, after), tmp_path / "moved", after))
    assert steps_done(tmp_path / "moved") == 24
    assert_same(tmp_path / "one", tmp_path / "moved")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_pretrain__a_rank_that_dies_ends_the_job_and_the_run_resumes(
    config: RunConfig, tmp_path: Path, strategy: str
) -> None:
    config = with_fusion(config)
    two = on(replace(config, monitor=replace(config.monitor, checkpoint_every=2)), 2, strategy=strategy)
    train_here(config, tmp_path / "whole")
    process = launch(two, tmp_path / "run", 2, watched={"step": 5, "do": "kill"})
    _, errors = process.communicate(timeout=200)  # an end, not a hang
    assert process.returncode != 0
    assert "SIGKILL" in errors
    assert steps_done(tmp_path / "run") == 4
    finish(launch(two, tmp_path / "run", 2))
    assert_same(tmp_path / "whole", tmp_path / "run")
