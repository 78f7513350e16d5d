"""Advice on a run that would take too long on the device at hand."""

from __future__ import annotations

from maesil.config import RunConfig

LONG_S = 24 * 3600.0
"""Time from which a run on a CPU is too long."""
SMALLEST = "demo"
"""Preset for CPUs."""


def cpu_advice(config: RunConfig, accelerator: str, seconds: float) -> str:
    """What to do about a long run on a CPU; empty where there is nothing to say.

    Args:
        config: Settings of the run.
        accelerator: Type of device, not "auto".
        seconds: Time to the end.
    """
    if accelerator != "cpu" or seconds < LONG_S or config.preset == SMALLEST:
        return ""
    return (
        f"on a CPU, use a smaller preset (`maesil pretrain {SMALLEST} --data.holdout.by patient --data.padded-crops "
        "...`), fewer --train.steps, or a GPU"
    )
