"""What a model is and takes: parameters, bottleneck, FLOPs; and what its training took, from its logs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from maesil.comparison.result import Cost
from maesil.config import RunConfig
from maesil.models import Pretrainer
from maesil.shapes import product
from maesil.training.logs import read_log


def count_flops(model: Pretrainer) -> float:
    """Floating-point operations of one superpatch's training step, forwards and backwards.

    Matrix products, convolutions and attention, as PyTorch counts them: a multiplication and an addition are two.
    """
    generator = torch.Generator().manual_seed(0)
    superpatch = torch.rand(1, 1, *model.grid.superpatch, generator=generator)
    mask = model.draw_mask(1, generator)
    was_training = model.training
    # In evaluation mode nothing that follows the data (a codebook) learns from this made-up superpatch.
    with FlopCounterMode(display=False) as counter:
        model.eval().loss(superpatch, mask).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return float(counter.get_total_flops())


def measure(model: Pretrainer, config: RunConfig, flops: float, run: Path) -> Cost:
    """The cost of a trained model.

    Args:
        model: The network.
        config: Its run's.
        flops: Per superpatch, from `count_flops`.
        run: Its run folder, for the logs.
    """
    if model.latent is None:
        raise ValueError("only what learns has a cost")
    rows = [row for row in read_log(run / "logs" / "metrics.csv") if row.get("superpatches_per_s")]
    steps = int(rows[-1]["step"]) if rows else 0
    superpatches = steps * config.train.batch * config.train.accumulate
    rates = [float(row["superpatches_per_s"]) for row in rows]
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        voxels=product(model.grid.superpatch),
        latent_elements=model.latent.elements,
        latent_bits=model.latent.bits,
        flops=flops,
        steps=steps,
        superpatches=superpatches,
        # Every row is the rate over as many superpatches as any other.
        seconds=superpatches * sum(1.0 / rate for rate in rates) / len(rates) if rates else 0.0,
        memory_gib=max((float(row["memory_gib"]) for row in rows), default=0.0),
    )


def seconds_per_step(run: Path, config: RunConfig) -> float:
    """Wall time of a step of a short run, from the later half of its log: the first steps warm up."""
    rows = [row for row in read_log(run / "logs" / "metrics.csv") if row.get("superpatches_per_s")]
    later = sorted(float(row["superpatches_per_s"]) for row in rows[len(rows) // 2 :])
    return config.train.batch * config.train.accumulate / later[len(later) // 2]
