"""Optimisers and their schedule: AdamW, alone or with Muon; linear warm-up, then a half-cosine to zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from maesil.training.config import TrainConfig
from maesil.training.muon import MuonAdamW, Named, split_parameters


def parameter_groups(
    parameters: Iterable[Named], weight_decay: float, *, rate: float | None = None, scales: Mapping[str, float] = {}
) -> list[dict[str, object]]:
    """Groups parameters so that matrices decay, and biases, norms, mask tokens and learned positions do not.

    Args:
        parameters: Pairs of name and parameter.
        weight_decay: Weight decay of the matrices.
        rate: Learning rate that `scales` are shares of; None leaves the optimiser's learning rate to all.
        scales: Share of the learning rate by parameter name; a missing name counts as 1.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and not name.endswith("positions.table")
            key = (scales.get(name, 1.0), weight_decay if decays else 0.0)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": chosen, "weight_decay": decay, **({} if rate is None else {"lr": rate * scale})}
        for (scale, decay), chosen in sorted(groups.items(), key=lambda item: (-item[0][0], -item[0][1]))
    ]


def make_optimizer(module: nn.Module, config: TrainConfig, world: int, *, fused: bool = True) -> Optimizer:
    """Makes the optimiser that the configuration names, for `world` devices."""
    rate = config.learning_rate(world)
    if config.optimizer == "adamw":
        groups = parameter_groups(module.named_parameters(), config.weight_decay)
        return AdamW(groups, lr=rate, betas=config.betas, fused=fused)
    matrices, others = split_parameters(module)
    groups = parameter_groups(others, config.weight_decay)
    decay = config.weight_decay
    return MuonAdamW([p for _, p in matrices], groups, lr=rate, betas=config.betas, weight_decay=decay, fused=fused)


def layered_adamw(
    module: nn.Module, config: TrainConfig, world: int, scales: Mapping[str, float], *, fused: bool
) -> Optimizer:
    """Makes an AdamW whose parameters have different shares of the learning rate.

    Args:
        module: Network to train.
        config: Learning rate, betas and weight decay.
        world: Number of devices.
        scales: Share of the learning rate by parameter name.
        fused: Whether AdamW runs as one kernel.
    """
    rate = config.learning_rate(world)
    groups = parameter_groups(module.named_parameters(), config.weight_decay, rate=rate, scales=scales)
    return AdamW(groups, lr=rate, betas=config.betas, fused=fused)


def make_schedule(optimizer: Optimizer, config: TrainConfig) -> LambdaLR:
    """Makes the schedule that sets the learning rate before each optimiser step."""
    return LambdaLR(optimizer, lambda step: warmup_cosine(step, config.steps, config.warmup))


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at `step` of `steps`: linear up, then half a cosine down to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
