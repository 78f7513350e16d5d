"""Settings of a training run: optimisation, monitoring, hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from maesil.errors import ConfigError

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TrainConfig:
    """Settings that change the result.

    Args:
        steps: Number of optimiser steps of the run.
        batch: Number of superpatches per device and micro-batch.
        accumulate: Number of micro-batches per optimiser step.
        optimizer: "adamw", or "muon" for Muon on the blocks' matrices and AdamW on all other parameters.
        base_lr: Learning rate per 256 superpatches of the global batch; the peak is base_lr * global batch / 256.
        peak_lr: Peak learning rate, used instead of `base_lr`.
        warmup: Share of the steps with a linearly rising learning rate; a half-cosine to zero follows.
        weight_decay: Weight decay of matrices; biases, norms, mask tokens and positions have none.
        betas: AdamW's two decay rates.
        clip_norm: Largest norm of the gradients, which are scaled down to it; None turns clipping off.
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
        """Number of superpatches per optimiser step on `world` devices."""
        return self.batch * self.accumulate * world

    def learning_rate(self, world: int) -> float:
        """Peak learning rate on `world` devices."""
        if self.peak_lr is not None:
            return self.peak_lr
        return self.base_lr * self.global_batch(world) / 256


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MonitorConfig:
    """How often a run validates, saves and logs; none of this changes the weights.

    Args:
        validate_every: Number of steps between scores on held-out superpatches; the last step is scored, too; 0 turns
            validation off.
        validation_superpatches: Largest number of superpatches to validate on; they and their masks never change.
        checkpoint_every: Number of steps between checkpoints.
        image_every: Number of steps between reconstruction images in TensorBoard; 0 turns images off.
        log_every: Number of steps between rows of the logs.
        wandb: Project of Weights & Biases that the run is logged to, too; None: it is not. Needs the extra `wandb`.
    """

    validate_every: NonNegativeInt = 1000
    validation_superpatches: PositiveInt = 64
    checkpoint_every: PositiveInt = 500
    image_every: NonNegativeInt = 1000
    log_every: PositiveInt = 20
    wandb: str | None = None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EfficiencyConfig:
    """Settings that change speed and rounding, but not the mathematics.

    Args:
        accelerator: Type of device; "auto" takes GPUs if there are any.
        devices: Number of devices per node; "auto" takes all GPUs, or one CPU process.
        nodes: Number of machines; under SLURM, that of the job.
        strategy: How several devices train one network: with "ddp" each holds all of it, with "fsdp2" a shard of its
            weights, gradients and moments, for networks too large for one device (`pretrain` only). "auto" is "ddp".
        precision: "bf16-mixed", "16-mixed" or "32-true"; "auto" takes bf16 on CPUs and GPUs with bf16 instructions,
            or else fp32 on a CPU and fp16 on a GPU. All work on a CPU, but fp16 is slow there.
        compile: Whether to run the model through torch.compile.
        recompute: Whether blocks recompute their activations in the backward pass: less memory, a third more work.
        resident_gib: Size in GiB of each process's cache of decoded voxels; those that were read last stay in it.
        threads: Number of CPU threads for computing; "auto" is PyTorch's choice.
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
