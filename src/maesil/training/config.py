"""How a run is trained, and with what means."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.errors import ConfigError

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainConfig:
    """Science: what changes the result.

    Args:
        steps: Optimiser steps of the run.
        batch: Superpatches per device and micro-batch.
        accumulate: Micro-batches per optimiser step.
        optimizer: "adamw", or "muon" for the blocks' matrices with AdamW beside it.
        base_lr: Learning rate per 256 superpatches of the global batch; the peak is base_lr * global batch / 256.
        peak_lr: The peak learning rate itself; takes the place of `base_lr`.
        warmup: Share of the steps with a linearly rising learning rate; a half-cosine to zero follows.
        weight_decay: on matrices only: not on biases, norms, mask tokens and positions.
        betas: AdamW's.
        clip_norm: Gradients are scaled down to this norm; None: never.
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
    """How often a run looks at itself; none of it changes the weights.

    Args:
        validate_every: Steps between scores on held-out superpatches; 0: never.
        validation_superpatches: At most this many, always the same with the same masks.
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
    """Means: what changes speed and rounding, not the mathematics.

    Args:
        accelerator: Where to compute.
        devices: Devices per node; "auto": all GPUs, or one CPU process.
        nodes: Machines; under SLURM as many as the job has.
        strategy: How several devices train one network: "ddp" gives each all of it, "fsdp2" a share of its weights,
            gradients and moments, for networks too large for one device (`pretrain` alone); "auto": "ddp".
        precision: "bf16-mixed", "16-mixed" or "32-true"; "auto": bf16 where the device multiplies it natively.
            All work on a CPU as well; fp16 there is for trying things out, not for speed.
        compile: Whether to run the model through torch.compile.
        recompute: Whether blocks compute their activations anew in the backward pass: less memory, a third more work.
        workers: Reading processes per device; "auto": enough for a GPU, none on a CPU that computes itself.
        resident_gib: A store of at most this size is kept in memory, each scan decoded once for all reading processes.
        threads: CPU threads for computing; "auto": PyTorch's choice.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt | Literal["auto"] = "auto"
    nodes: PositiveInt = 1
    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    precision: Precision = "auto"
    compile: bool = False
    recompute: bool = False
    workers: NonNegativeInt | Literal["auto"] = "auto"
    resident_gib: NonNegativeFloat = 2.0
    threads: PositiveInt | Literal["auto"] = "auto"
