"""How a run is trained, and with what means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from maesil.errors import ConfigError

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainConfig:
    """Length and optimiser of a training: what changes its result.

    Args:
        steps: Number of optimiser steps.
        batch: Number of superpatches per device and micro-batch.
        accumulate: Number of micro-batches per optimiser step.
        optimizer: Optimiser: "adamw", or "muon" for the blocks' matrices and AdamW for the rest.
        base_lr: Learning rate per 256 superpatches of the global batch; the peak is base_lr * global batch / 256.
        peak_lr: Peak learning rate; it takes the place of `base_lr`.
        warmup: Share of the steps with a linearly rising learning rate; a half-cosine to zero follows.
        weight_decay: Weight decay of matrices; biases, norms, mask tokens and positions have none.
        betas: Decay rates of AdamW's two moments.
        clip_norm: Largest norm of the gradients, which are scaled down to it; None: no limit.
    """

    steps: PositiveInt = 100_000
    batch: PositiveInt = 4
    accumulate: PositiveInt = 1
    optimizer: Literal["adamw", "muon"] = "adamw"
    base_lr: float = 1.5e-4
    peak_lr: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.warmup < 1.0:
            raise ConfigError(f"warmup is {self.warmup}", fix="give a share of the steps in [0, 1)")

    def global_batch(self, world: int) -> int:
        """Superpatches of an optimiser step on `world` devices."""
        return self.batch * self.accumulate * world

    def learning_rate(self, world: int) -> float:
        """The peak learning rate on `world` devices."""
        if self.peak_lr is not None:
            return self.peak_lr
        return self.base_lr * self.global_batch(world) / 256


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MonitorConfig:
    """Validation, checkpoints, images and logs of a run; none of these change the weights.

    Args:
        validate_every: Steps between scores on held-out superpatches; 0: never.
        validation_superpatches: Largest number of superpatches to score, always the same ones with the same masks.
        checkpoint_every: Steps between checkpoints.
        image_every: Steps between reconstruction images in TensorBoard; 0: never.
        log_every: Steps between rows of the logs.
    """

    validate_every: NonNegativeInt = 1000
    validation_superpatches: PositiveInt = 64
    checkpoint_every: PositiveInt = 500
    image_every: NonNegativeInt = 1000
    log_every: PositiveInt = 20


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EfficiencyConfig:
    """Devices, precision and memory: what changes speed and rounding, not the mathematics.

    Args:
        accelerator: Kind of device to compute on.
        devices: Number of devices per node; "auto": all GPUs, or one CPU process.
        nodes: Number of machines; under SLURM, as many as the job has.
        strategy: How several devices train one network: "ddp" gives each all of it, "fsdp2" a share of its weights,
            gradients and moments, for networks too large for one device (`pretrain` alone); "auto": "ddp".
        precision: Number format: "bf16-mixed", "16-mixed" or "32-true"; "auto": bf16 where the device multiplies it
            natively. All work on a CPU as well; fp16 there is for trying things out, not for speed.
        compile: Whether to run the model through torch.compile.
        recompute: Whether blocks compute their activations anew in the backward pass: less memory, a third more work.
        resident_gib: Size in GiB of each process's cache of decoded voxels; those that were read last stay in it.
        threads: Number of CPU threads; "auto": PyTorch's choice.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt | Literal["auto"] = "auto"
    nodes: PositiveInt = 1
    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    precision: Precision = "auto"
    compile: bool = False
    recompute: bool = False
    resident_gib: NonNegativeFloat = 2.0
    threads: PositiveInt | Literal["auto"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _renew(cls, values: Any) -> Any:
        """Files of older runs have a number of reading processes, which are no more."""
        return {key: values[key] for key in values if key != "workers"} if isinstance(values, Mapping) else values
