"""The cost of a model: parameters, bottleneck, FLOPs; and of its training, from its logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from maesil.comparison.result import Cost
from maesil.config import RunConfig
from maesil.models import Pretrainer
from maesil.shapes import product
from maesil.training.devices import world_size
from maesil.training.logs import read_log


def _attention_forward(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
    """FLOPs of scores and weighted sum: two matrix products, from the shapes (b, heads, n, width)."""
    batch, heads, count, width = query
    return int(4 * batch * heads * count * key[2] * width)


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
    """FLOPs of five matrix products: the recomputed scores, and four gradients."""
    return 5 * _attention_forward(query, key, value) // 2


_ATEN = torch.ops.aten
ATTENTION_ON_CPU = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention_forward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The same formulas as PyTorch's counter uses for attention on GPUs; it does not know the CPU's kernels."""


def count_flops(model: Pretrainer) -> float:
    """Floating-point operations of one superpatch's training step, forward and backward; the mean over a run's steps.

    Matrix products, convolutions and attention, as PyTorch counts them: a multiplication and an addition count as two.
    """
    generator = torch.Generator().manual_seed(0)
    superpatch = torch.rand(1, 1, *model.grid.superpatch, generator=generator)
    mask = model.draw_mask(1, generator)
    was_training = model.training
    # In evaluation mode, nothing that tracks the data (a codebook) is updated by this random superpatch.
    model.eval()
    flops = _counted(lambda: model.loss(superpatch, mask))
    stage = model.last_stage
    if stage is not None:
        flops = (1 - stage.share) * flops + stage.share * _counted(lambda: model.last_loss(superpatch, mask))
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    return flops


def _counted(loss: Callable[[], Tensor]) -> float:
    """Operations of a loss and its gradient."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as counter:
        loss().backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def measure(model: Pretrainer, config: RunConfig, flops: float, run: Path, steps: int) -> Cost:
    """The cost of a trained model.

    Args:
        model: The network.
        config: Its run's settings, for batch and devices: the logged rate is over all devices together.
        flops: FLOPs per superpatch, from `count_flops`.
        run: Its run folder, for the logs.
        steps: Optimiser steps done; the log may end before the last of them.
    """
    latent = model.latent
    rows = [row for row in read_log(run / "logs" / "metrics.csv") if row.get("superpatches_per_s")]
    superpatches = steps * config.train.global_batch(world_size(config.efficiency))
    rates = [float(row["superpatches_per_s"]) for row in rows]
    return Cost(
        parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        voxels=product(model.grid.superpatch),
        latent_elements=latent.elements if latent else None,
        latent_bits=latent.bits if latent else None,
        flops=flops,
        steps=steps,
        superpatches=superpatches,
        # Every row is the rate over the same number of superpatches.
        seconds=superpatches * sum(1.0 / rate for rate in rates) / len(rates) if rates else 0.0,
        memory_gib=max((float(row["memory_gib"]) for row in rows), default=0.0),
    )


def seconds_per_step(run: Path, config: RunConfig) -> float:
    """Wall time per step of a short run, from the second half of its log: the first steps are warm-up."""
    rows = [row for row in read_log(run / "logs" / "metrics.csv") if row.get("superpatches_per_s")]
    later = sorted(float(row["superpatches_per_s"]) for row in rows[len(rows) // 2 :])
    return config.train.global_batch(world_size(config.efficiency)) / later[len(later) // 2]
