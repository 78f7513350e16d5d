"""Advice on a run that would take too long on the device at hand."""

from __future__ import annotations

import torch

from maesil.config import RunConfig
from maesil.models import MAEConfig
from maesil.models.cost import mae_flops
from maesil.progress import duration
from maesil.training.devices import resolve, world_size

LONG_S = 24 * 3600.0
"""Time from which a run on a CPU is too long."""
SMALLEST = "demo"
"""Preset for CPUs."""
CORE_FLOPS = 1.4e11
"""Floating-point operations per second of a core in the trainings of `results/voxel_fusion`, in bf16 on a server."""


def cpu_warning(config: RunConfig) -> str:
    """What to know before a run that would take days on a CPU like ours; empty where it would not, or on a GPU.

    A first step may take so long that a forecast made from it comes too late.

    Args:
        config: Settings of a masked autoencoder's run; those of other models get no warning.
    """
    efficiency = resolve(config.efficiency)
    if not isinstance(config.model, MAEConfig):
        return ""
    threads = torch.get_num_threads() if efficiency.threads == "auto" else efficiency.threads
    superpatches = config.train.steps * config.train.global_batch(world_size(efficiency))
    flops = mae_flops(config.model, config.masking.visible_count(config.model.grid)) * superpatches
    seconds = flops / (CORE_FLOPS * threads * world_size(efficiency))
    advice = cpu_advice(config, str(efficiency.accelerator), seconds)
    return f"this run may take {duration(seconds)}, by its operations: {advice}" if advice else ""


def cpu_advice(config: RunConfig, accelerator: str, seconds: float) -> str:
    """What to do about a long run on a CPU; empty where there is nothing to say.

    Args:
        config: Settings of the run.
        accelerator: Type of device, not "auto".
        seconds: Time to the end.
    """
    if accelerator != "cpu" or seconds < LONG_S:
        return ""
    smaller = f"a smaller preset (`maesil pretrain {SMALLEST} --data.holdout.by patient --data.padded-crops ...`), "
    return f"on a CPU, use {'' if config.preset == SMALLEST else smaller}fewer --train.steps, or a GPU"
