"""The time that a run will take, said once, after its first steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, final

import pytorch_lightning as pl
from rich.console import Console

from maesil.progress import Pace, duration
from maesil.training.callbacks import steps_done

STEPS = 4
"""Number of steps after which the time is known; the first one, which warms up, is not counted."""
PATIENCE_S = 20.0
"""Time after which fewer steps are enough: a step may take minutes."""
SHORT_S = 60.0
"""Time of runs that need no forecast."""


@final
class Forecast(pl.Callback):
    """Prints the time to the end after the first steps of a call: `50,000 steps, about 14 h left`.

    Args:
        console: Console to print to.
        advice: Function from the seconds to the end to a sentence that follows; empty: none.
    """

    def __init__(self, console: Console, advice: Callable[[float], str] = lambda seconds: "") -> None:
        self.console = console
        self.advice = advice
        self._done, self._began = 0, 0.0
        self._pace = Pace()
        self._said = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts steps, and prints as soon as there are enough."""
        if self._said or not trainer.is_global_zero or not steps_done(trainer, batch_idx):
            return
        self._done += 1
        if self._done == 1:  # the pace is that of the steps after it
            self._began, self._pace = time.monotonic(), Pace(trainer.global_step)
            return
        self._pace.update(trainer.global_step)
        if self._done < STEPS and time.monotonic() - self._began < PATIENCE_S:
            return
        self._said = True
        left_s = self._pace.seconds_left(int(trainer.max_steps)) or 0.0
        if left_s >= SHORT_S:
            step_s = left_s / (trainer.max_steps - trainer.global_step)
            text = f"{trainer.max_steps:,} steps, about {duration(left_s)} left ({step_s:.2g} s per step)"
            self.console.print("; ".join(filter(None, (text, self.advice(left_s)))), markup=False, highlight=False)
