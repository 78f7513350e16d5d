"""Live progress of a run in a terminal; plain lines where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from maesil.training.callbacks import steps_done

PLAIN_LINES = 10
"""About as many lines are printed over a run where the output is no terminal."""


@final
class LiveProgress(pl.Callback):
    """A bar with loss, held-out score, speed and time left.

    Args:
        console: Where to print.
        title: Of the bar.
    """

    def __init__(self, console: Console, title: str = "pre-training") -> None:
        self.console = console
        self.title = title
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._line_due = False
        self._validated = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows the bar at the step the run is at."""
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        columns = ("[bold]{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[facts]}")
        self._bar = Progress(*columns, TimeRemainingColumn(), TextColumn("left"), console=self.console)
        self._task = self._bar.add_task(self.title, total=trainer.max_steps, completed=trainer.global_step, facts="")
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves on by one step."""
        if not trainer.is_global_zero or not steps_done(trainer, batch_idx):
            return
        step = trainer.global_step
        self._line_due = self._bar is None and (step % line_every(trainer) == 0 or step == trainer.max_steps)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, facts=self._facts(trainer))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows the new held-out score."""
        self._validated = trainer.global_step
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, facts=self._facts(trainer))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prints the last step's line: by now it has been validated, if it was to be."""
        self._print_line(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the line of the last step."""
        self._print_line(trainer)

    def _print_line(self, trainer: pl.Trainer) -> None:
        if self._line_due:
            line = f"step {trainer.global_step}/{trainer.max_steps}  {self._facts(trainer)}"
            self.console.print(line, highlight=False)
            self._line_due = False

    def _facts(self, trainer: pl.Trainer) -> str:
        return facts(trainer.callback_metrics, trainer.global_step, self._validated)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Closes the bar, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def line_every(trainer: pl.Trainer) -> int:
    """Steps from a plain line to the next: those of some rows of the log, so that a line's loss is of its own step.

    But for the line of a run's last step, where no row is due: its loss is of the last row.
    """
    row = int(trainer.log_every_n_steps)  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    return max(1, round(trainer.max_steps / PLAIN_LINES / row)) * row


def facts(metrics: Mapping[str, Any], step: int, validated: int) -> str:
    """The metrics a person watches, in one line; a held-out score of an earlier step says so.

    Args:
        metrics: By name; others are left out.
        step: Where the run is.
        validated: The step of the held-out score.
    """
    since = "" if step == validated else f" (step {validated})"
    formats = (
        ("loss", "loss {:.4f}"),
        ("val_psnr_masked", "held-out {:.2f} dB" + since),
        ("val_dice", "held-out Dice {:.3f}" + since),
        ("superpatches_per_s", "{:.1f} superpatches/s"),
    )
    return "  ".join(text.format(float(metrics[name])) for name, text in formats if name in metrics)
