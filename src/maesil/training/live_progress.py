"""Live progress of a run in a terminal, or plain lines if the output is not a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from maesil.progress import PLAIN_LINES, WINDOW_S, Lines, Pace
from maesil.progress import Progress as Report
from maesil.training.callbacks import learning_alone, logged_step, steps_done


@final
class LiveProgress(pl.Callback):
    """Shows a bar with loss, held-out score, speed and time left.

    Args:
        console: Console to print to.
        title: Title of the bar.
        report: Function called after every step, with the steps done, all steps, and loss, score and speed in words;
            None: nothing is reported.
    """

    def __init__(self, console: Console, title: str = "pre-training", report: Report | None = None) -> None:
        self.console = console
        self.report = report
        self.title = title
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._line_due = False
        self._validated = 0
        self._pace, self._lines = Pace(), Lines()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows the bar at the run's current step."""
        self._pace, self._lines = Pace(trainer.global_step), Lines()
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        columns = ("[bold]{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[facts]}")
        self._bar = Progress(
            *columns, TimeRemainingColumn(), TextColumn("left"), console=self.console, speed_estimate_period=WINDOW_S
        )
        self._task = self._bar.add_task(self.title, total=trainer.max_steps, completed=trainer.global_step, facts="")
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advances the bar by one step, or notes that a plain line is due."""
        if not trainer.is_global_zero or not steps_done(trainer, batch_idx):
            return
        step = trainer.global_step
        self._pace.update(step)
        self._line_due = self._bar is None and self._lines.is_due(step, int(trainer.max_steps), line_every(trainer))
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, facts=self._facts(trainer))
        if self.report is not None:
            self.report(step, int(trainer.max_steps), self._facts(trainer))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows the new held-out score."""
        self._validated = trainer.global_step
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, facts=self._facts(trainer))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prints the line of the previous step, now that any validation of that step is done."""
        self._print_line(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the line of the last step."""
        self._print_line(trainer)

    def _print_line(self, trainer: pl.Trainer) -> None:
        if self._line_due:
            left = self._pace.left(int(trainer.max_steps))
            parts = (f"step {trainer.global_step}/{trainer.max_steps}", self._facts(trainer), left)
            self.console.print("  ".join(filter(None, parts)), highlight=False)
            self._lines.printed()
            self._line_due = False

    def say(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        self.console.print(text, highlight=False, markup=False)

    def _facts(self, trainer: pl.Trainer) -> str:
        logged = logged_step(trainer)
        part = learning_alone(trainer, logged)
        return facts(trainer.callback_metrics, trainer.global_step, self._validated, logged, part)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Closes the bar, even after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def line_every(trainer: pl.Trainer) -> int:
    """Number of steps between plain lines, a multiple of the log's interval, so that each line shows its step's loss.

    The line of a run's last step is the exception: if no row is due there, it shows the loss of the last row.
    """
    row = int(trainer.log_every_n_steps)  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    return max(1, round(trainer.max_steps / PLAIN_LINES / row)) * row


def facts(metrics: Mapping[str, Any], step: int, validated: int, logged: int, part: str = "") -> str:
    """Formats the most important metrics in one line. A loss or score from an earlier step is followed by that step.

    Args:
        metrics: Metrics by name; those without a format are left out.
        step: Current step of the run.
        validated: Step of the held-out score.
        logged: Step of the loss.
        part: Part of the network that learns alone, whose loss is another than the network's; empty: none does.
    """
    since, then = ("" if step == own else f" (step {own})" for own in (validated, logged))
    formats = (
        ("loss", (f"loss of the {part} {{:.4f}}" if part else "loss {:.4f}") + then),
        ("val_psnr_masked", "held-out {:.2f} dB" + since),
        ("val_dice", "held-out Dice {:.3f}" + since),
        ("superpatches_per_s", "{:.1f} superpatches/s"),
    )
    return "  ".join(text.format(float(metrics[name])) for name, text in formats if name in metrics)
