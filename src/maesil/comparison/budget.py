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
    """What every model's training may take.

    Attributes:
        unit: "steps" of the optimiser; "seconds" of training on this machine, from a short measured run; "flops",
            forwards and backwards, of the whole training.
        amount: How many.
    """

    unit: Unit
    amount: float

    def steps(self, train: TrainConfig, world: int, *, seconds_per_step: float = 0.0, flops: float = 0.0) -> int:
        """Optimiser steps that the budget buys, at least one.

        Args:
            train: Batch and accumulation.
            world: Devices that train together.
            seconds_per_step: As measured on all of them; needed for "seconds".
            flops: Per superpatch; needed for "flops".
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
    """A budget from words such as "steps=1500", "seconds=600", "flops=1e17".

    Raises:
        ConfigError: It cannot be read, or is not positive.
    """
    unit, _, amount = text.partition("=")
    fix = "--budget steps=N, seconds=N or flops=N"
    if unit not in UNITS:
        raise ConfigError(f"'{text}' is no budget", fix=fix)
    try:
        value = float(amount)
    except ValueError:
        raise ConfigError(f"'{amount}' is no number", where=f"--budget {text}", fix=fix) from None
    if not (1 if unit == "steps" else 0) <= value < float("inf") or not value:
        raise ConfigError(f"a budget of {amount} {unit} buys nothing", fix=fix)
    return Budget(unit, value)
