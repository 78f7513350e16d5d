"""AdamW with the usual no-decay groups, linear warm-up and a half-cosine to zero."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from maesil.training.config import TrainConfig


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decays matrices; leaves biases, norms, mask tokens and learned positions alone."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and not name.endswith("positions.table")
            (decayed if decays else free).append(parameter)
    groups = ((decayed, weight_decay), (free, 0.0))
    return [{"params": parameters, "weight_decay": decay} for parameters, decay in groups if parameters]


def make_optimizer(module: nn.Module, config: TrainConfig, world: int, *, fused: bool = True) -> AdamW:
    """AdamW for `world` devices."""
    groups = parameter_groups(module, config.weight_decay)
    return AdamW(groups, lr=config.learning_rate(world), betas=config.betas, fused=fused)


def make_schedule(optimizer: AdamW, config: TrainConfig) -> LambdaLR:
    """Learning rate per optimiser step."""
    return LambdaLR(optimizer, lambda step: warmup_cosine(step, config.steps, config.warmup))


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at `step` of `steps`: linear up, then half a cosine down to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
