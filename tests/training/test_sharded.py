"""FSDP2 on two processes (gloo, on the CPU): what DDP promises, and that the weights really are shared out."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.distributed.device_mesh import DeviceMesh

from maesil.config import RunConfig
from maesil.errors import ConfigError
from maesil.models.vqvae import VQVAEConfig
from maesil.runs.checkpoints import steps_done
from maesil.runs.load import load_run
from maesil.tasks.classification.module import ClassificationModule
from maesil.training.config import EfficiencyConfig
from maesil.training.devices import resolve
from maesil.training.logs import curve
from ranks import assert_same, finish, launch, on, train_here, weights

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

CLIP = 0.01
"""Small enough that every step is clipped."""


def sharded(config: RunConfig) -> RunConfig:
    return on(config, 2, strategy="fsdp2")


def test_resolve__one_device_has_nobody_to_share_with() -> None:
    with pytest.raises(ConfigError, match="there is one"):
        resolve(EfficiencyConfig(accelerator="cpu", strategy="fsdp2"))
    assert resolve(EfficiencyConfig(accelerator="cpu", strategy="fsdp2", devices=2)).strategy == "fsdp2"


def test_shard__is_for_pretraining_alone() -> None:
    module = ClassificationModule.__new__(ClassificationModule)
    with pytest.raises(ConfigError, match="pre-training only"):
        module.shard(MagicMock(spec=DeviceMesh))


@pytest.fixture
def seen(config: RunConfig) -> RunConfig:
    """With clipping, validation, images and two checkpoints."""
    monitor = replace(config.monitor, validate_every=4, validation_superpatches=4, image_every=4, checkpoint_every=4)
    return replace(config, train=replace(config.train, clip_norm=CLIP), monitor=monitor)


def test_pretrain__shards_train_as_one_process(seen: RunConfig, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(launch(on(seen, 1), one, 1, watched={}))
    finish(launch(sharded(seen), two, 2, watched={}))
    assert_same(one, two)
    for which in ("last", "best"):
        assert load_run(one, checkpoint=which).record["step"] == load_run(two, checkpoint=which).record["step"]  # type: ignore[arg-type]
    assert_halves(two)
    assert_same_gradients(one, two)
    assert_same_moments(one, two)
    for column in ("loss", "val_psnr_masked"):
        (steps, values), (others, found) = (curve(run / "logs" / "metrics.csv", column) for run in (one, two))
        assert steps == others
        np.testing.assert_allclose(found, values, rtol=1e-4)
    assert image_steps(two) == image_steps(one) == [4, 8]


def assert_halves(run: Path) -> None:
    """Each rank holds about half of the numbers, the two of them each number once."""
    first, second = (json.loads((run / f"shares-{rank}.json").read_text()) for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, (held, size) in first.items():
        assert held + second[name][0] == size, name
        assert abs(held - size / 2) <= 0.05 * size, name
    assert len(first) > 20


def assert_same_gradients(one: Path, two: Path) -> None:
    for step in (0, 7):
        raw, clipped = (
            [load_file(run / f"{what}-{step}.safetensors") for run in (one, two)] for what in ("gradients", "clipped")
        )
        for expected, found in (raw, clipped):
            assert expected.keys() == found.keys()
            for name, gradient in expected.items():
                torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=f"{name} in step {step}")
        norms = [float(torch.cat([g.flatten() for g in found[1].values()]).norm()) for found in (raw, clipped)]
        assert norms[0] > 2 * CLIP
        assert norms[1] == pytest.approx(CLIP, rel=1e-3)


def optimizer_state(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "checkpoints" / "last" / "trainer.ckpt", weights_only=True)
    (found,) = state["optimizer_states"]
    return found  # type: ignore[no-any-return]


def assert_same_moments(one: Path, two: Path) -> None:
    """In the same order, of the same shapes: a checkpoint does not tell who wrote it."""
    expected, found = optimizer_state(one), optimizer_state(two)
    assert expected["param_groups"] == found["param_groups"]
    torch.testing.assert_close(found["state"], expected["state"], rtol=1e-3, atol=1e-6)


def image_steps(run: Path) -> list[int]:
    events = EventAccumulator(str(run / "logs" / "tensorboard"))
    events.Reload()
    return [image.step for image in events.Images("held-out superpatch")]


@pytest.mark.parametrize(
    ("before", "after", "optimizer"),
    [("fsdp2", None, "adamw"), (None, "fsdp2", "adamw"), ("fsdp2", "ddp", "muon")],
)
def test_pretrain__a_stopped_run_goes_on_under_another_strategy(
    config: RunConfig, tmp_path: Path, before: str | None, after: str | None, optimizer: str
) -> None:
    """Stopped by a signal to one rank; None is a single process. A run that forgets its moments ends 5e-3 away."""
    config = replace(config, train=replace(config.train, steps=24, optimizer=optimizer))  # type: ignore[arg-type]
    train_here(config, tmp_path / "one")
    moved = tmp_path / "moved"
    stopped = start(config, moved, before, watched={"step": 3, "do": "stop"})
    _, errors = stopped.communicate(timeout=200)
    assert stopped.returncode == 1, errors
    assert 3 < steps_done(moved) < 24
    finish(start(config, moved, after))
    assert steps_done(moved) == 24
    assert_same(tmp_path / "one", moved, **({"atol": 1e-3} if optimizer == "muon" else {}))  # Muon multiplies in bf16


def start(
    config: RunConfig, run: Path, strategy: str | None, watched: dict[str, Any] | None = None
) -> subprocess.Popen[str]:
    """On one process, or on two with a strategy."""
    world = 1 if strategy is None else 2
    return launch(on(config, world, strategy=strategy or "auto"), run, world, watched)


def test_pretrain__a_weight_that_is_not_finite_on_one_rank_stops_all(config: RunConfig, tmp_path: Path) -> None:
    """The first rank, which holds no share of it, tells of it, and publishes nothing."""
    train = replace(config.train, clip_norm=None)
    config = replace(config, train=train, monitor=replace(config.monitor, checkpoint_every=1))
    process = launch(sharded(config), tmp_path / "run", 2, watched={"step": 5, "do": "spoil"}, alone=True)
    _, errors = process.communicate(timeout=200)
    assert process.returncode != 0
    message = "the weight 'encoder.blocks.0.mlp.0.weight' is not finite after step 6"
    assert errors.count(message) == 2, errors
    assert steps_done(tmp_path / "run") == 5
    assert all(bool(tensor.isfinite().all()) for tensor in weights(tmp_path / "run").values())


@pytest.mark.parametrize("case", ["bf16", "vqvae"])
def test_pretrain__shards_train_as_ddp(config: RunConfig, tmp_path: Path, case: str) -> None:
    """In half precision; and a network without blocks, with a codebook that sets itself."""
    codes = VQVAEConfig(superpatch=(32, 32, 32), channels=(4, 8), latent_channels=4, codes=16)
    config = replace(config, model=codes) if case == "vqvae" else config
    monitor = replace(config.monitor, validate_every=8, validation_superpatches=4)
    config = replace(config, train=replace(config.train, steps=8), monitor=monitor)
    precision = "bf16-mixed" if case == "bf16" else "32-true"
    for strategy in ("ddp", "fsdp2"):
        finish(launch(on(config, 2, strategy=strategy, precision=precision), tmp_path / strategy, 2))
    assert_same(tmp_path / "ddp", tmp_path / "fsdp2")
