"""Advice on a run that would take too long on the device at hand."""

from __future__ import annotations

import torch

from maesil.config import RunConfig
from maesil.cores import available_cores
from maesil.models import MAEConfig
from maesil.models.cost import mae_flops
from maesil.progress import duration
from maesil.training.devices import resolve, world_size

LONG_S = 24 * 3600.0
"""Time from which a run on a CPU is too long."""
FOR_CPUS = "small"
"""Preset for CPUs."""
NOTICED = 0.5
"""Number of cores in use by other programs from which a run is told of them."""
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
    smaller = "" if config.preset in (FOR_CPUS, "demo") else f"a smaller preset (`maesil pretrain {FOR_CPUS} ...`), "
    return f"on a CPU, use {smaller}fewer --train.steps, or a GPU"


def sharing_advice(threads: int, others: float | None) -> str:
    """What to do about a run on a CPU that has to share its cores; empty where each thread has one of its own.

    Threads wait for each other many times in a step, so one that has to wait for a core stops them all.

    Args:
        threads: Number of the run's threads.
        others: Number of cores that other programs use; None: unknown.
    """
    if others is None or others < NOTICED:
        return ""
    cores = available_cores()
    free = max(1, round(cores - others))
    if threads <= free:
        return ""
    return f"other programs use {others:.1f} of {cores} cores: --efficiency.threads {free} may be many times faster"
