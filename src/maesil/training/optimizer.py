"""Optimisers and their schedule: AdamW, alone or with Muon; linear warm-up, then a half-cosine to zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from maesil.models.contract import LastStage
from maesil.training.config import TrainConfig
from maesil.training.muon import MuonAdamW, Named, split_parameters

Lengthened = Sequence[tuple[int, int]]
"""Steps at which a run was made longer, each with the number of steps it had before."""
RatePlan = Callable[[int, int, float], float]
"""Function from a step, the number of steps and the share of the warm-up to a share of the peak learning rate."""


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


def make_optimizer(
    module: nn.Module, config: TrainConfig, world: int, *, fused: bool = True, last: LastStage | None = None
) -> Optimizer:
    """Makes the optimiser that the configuration names, for `world` devices.

    The part that a last stage trains is its last group, with Adam at the stage's learning rate.
    """
    rate = config.learning_rate(world)
    of_stage = set() if last is None else set(last.part.parameters())
    late: list[dict[str, object]] = (
        [] if last is None else [{"params": list(last.part.parameters()), "weight_decay": 0.0, "lr": last.peak_lr}]
    )
    if config.optimizer == "adamw":
        named = [(name, parameter) for name, parameter in module.named_parameters() if parameter not in of_stage]
        groups = parameter_groups(named, config.weight_decay)
        return AdamW([*groups, *late], lr=rate, betas=config.betas, fused=fused)
    matrices, others = split_parameters(module)
    others = [(name, parameter) for name, parameter in others if parameter not in of_stage]
    groups = [*parameter_groups(others, config.weight_decay), *late]
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


def make_schedule(
    optimizer: Optimizer, config: TrainConfig, last: LastStage | None = None, lengthened: Lengthened = ()
) -> LambdaLR:
    """Makes the schedule that sets the learning rates before each optimiser step; a last stage has one of its own.

    Args:
        optimizer: The optimiser; the parameters of a last stage are its last group.
        config: Length of the run, and share of the warm-up.
        last: Stage that has the run's last steps for itself; None: there is none.
        lengthened: Steps at which the run was made longer, as in `rate_share`.
    """

    def of_rest(step: int, steps: int, warmup: float) -> float:
        learning = steps if last is None else last.first_step(steps)
        return warmup_cosine(step, learning, warmup) if learning else 0.0

    def of_stage(step: int, steps: int, warmup: float) -> float:
        assert last is not None
        before = last.first_step(steps)
        return 0.0 if step < before else warmup_cosine(step - before, steps - before, warmup)

    others = len(optimizer.param_groups) - (last is not None)
    plans: list[RatePlan] = [of_rest] * others if last is None else [*[of_rest] * others, of_stage]
    return LambdaLR(
        optimizer,
        [partial(rate_share, steps=config.steps, warmup=config.warmup, lengthened=lengthened, plan=p) for p in plans],
    )


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at `step` of `steps`: linear up, then half a cosine down to zero."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def rate_share(
    step: int, steps: int, warmup: float, lengthened: Lengthened = (), plan: RatePlan = warmup_cosine
) -> float:
    """Share of the peak learning rate at a step.

    Args:
        step: Number of steps done.
        steps: Number of steps of the run.
        warmup: Share of the steps with a rising learning rate.
        lengthened: Steps at which the run was made longer, each with the number of steps it had before. From there on,
            the learning rate moves from the shorter schedule's to the longer one's, linearly over the share `warmup` of
            the steps that are left.
        plan: Schedule of a run that was never made longer.
    """
    if not lengthened:
        return plan(step, steps, warmup)
    at, before = lengthened[-1]
    if step <= at:
        return rate_share(step, before, warmup, lengthened[:-1], plan)
    moved = min(1.0, (step - at) / max(1, round(warmup * (steps - at))))
    former = rate_share(at, before, warmup, lengthened[:-1], plan)
    return (1 - moved) * former + moved * plan(step, steps, warmup)
