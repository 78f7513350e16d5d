"""An equal budget for every model: steps, seconds of training, or floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from maesil.errors import ConfigError
from maesil.training.config import TrainConfig

Unit = Literal["steps", "seconds", "flops"]
UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass(frozen=True)
class Budget:
    """The training budget of every model.

    Attributes:
        unit: "steps" of the optimiser; "seconds" of training on this machine, estimated from a short run; "flops" of
            the whole training, forward and backward.
        amount: Number of units.
    """

    unit: Unit
    amount: float

    def steps(self, train: TrainConfig, world: int, *, seconds_per_step: float = 0.0, flops: float = 0.0) -> int:
        """Number of optimiser steps within the budget, at least one.

        Args:
            train: Batch and accumulation.
            world: Number of devices that train together.
            seconds_per_step: Time per step, measured on all devices; needed for "seconds".
            flops: FLOPs per superpatch; needed for "flops".
        """
        if self.unit == "steps":
            return int(self.amount)
        price = seconds_per_step if self.unit == "seconds" else flops * train.global_batch(world)
        return max(1, int(self.amount / price))

    def describe(self) -> str:
        """The budget in words."""
        what = {"steps": "optimiser steps", "seconds": "seconds of training", "flops": "training FLOPs"}[self.unit]
        return f"{self.amount:g} {what} per model"


def parse_budget(text: str) -> Budget:
    """Parses a budget such as "steps=1500", "seconds=600" or "flops=1e17".

    Raises:
        ConfigError: The budget cannot be parsed, or is not positive.
    """
    unit, _, amount = text.partition("=")
    fix = "--budget steps=N, seconds=N or flops=N"
    if unit not in UNITS:
        raise ConfigError(f"'{text}' is not a budget", fix=fix)
    try:
        value = float(amount)
    except ValueError:
        raise ConfigError(f"'{amount}' is not a number", where=f"--budget {text}", fix=fix) from None
    if not (1 if unit == "steps" else 0) <= value < float("inf") or not value:
        raise ConfigError(f"a budget of {amount} {unit} is too small or infinite", fix=fix)
    return Budget(unit, value)
