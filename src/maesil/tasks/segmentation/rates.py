"""Choosing each start's learning rate on validation patients; test patients are not used."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from maesil.errors import ConfigError, MaesilError, OutputError, TrainingError
from maesil.evaluation.runner import held_out
from maesil.files import write_json
from maesil.progress import Progress, scan_bar
from maesil.sampling.labelled import annotated
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation.arms import Arm
from maesil.tasks.segmentation.config import FinetuneConfig
from maesil.tasks.segmentation.division import divide
from maesil.tasks.segmentation.score import Windows, load_segmenter, segment
from maesil.tasks.segmentation.tables import mean_of
from maesil.tasks.segmentation.train import Ready, finetune_segmentation

SEED = 0
"""Seed of the trainings that the rates are chosen by."""


@dataclass(frozen=True)
class Attempt:
    """One training at one rate.

    Attributes:
        start: "pre-trained" or "scratch".
        peak_lr: Peak learning rate.
        dice: Mean Dice over the validation scans; None: the training failed.
        failed: Why the training failed; None if it did not.
    """

    start: str
    peak_lr: float
    dice: float | None = None
    failed: str | None = None

    def __str__(self) -> str:
        return f"{self.peak_lr:g} " + (f"{self.dice:.3f}" if self.dice is not None else f"failed ({self.failed})")


@dataclass(frozen=True)
class Search:
    """How learning rates were chosen.

    Attributes:
        amount: The trainings' amount of labels, in words.
        attempts: Attempts in the order they were made.
    """

    amount: str
    attempts: tuple[Attempt, ...]

    @property
    def chosen(self) -> dict[str, float]:
        """Start to the rate with the best validation Dice; in a tie, the first tried."""
        starts = dict.fromkeys(attempt.start for attempt in self.attempts)
        return {start: max(self._scored(start), key=lambda attempt: attempt.dice or 0.0).peak_lr for start in starts}

    def sentence(self) -> str:
        """The search as a sentence."""
        starts = dict.fromkeys(attempt.start for attempt in self.attempts)
        parts = [f"{start} {', '.join(str(a) for a in self.attempts if a.start == start)}" for start in starts]
        return (
            f"Each start's learning rate is the one with the best Dice on the validation patients, which were used for "
            f"nothing else, in a training with {self.amount}, seed {SEED} (rate and Dice): {'; '.join(parts)}."
        )

    def _scored(self, start: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.start == start and attempt.dice is not None]


def choose_rates(
    config: FinetuneConfig,
    arms: Mapping[str, Arm],
    rates: Sequence[float],
    amount: str,
    folder: Path,
    *,
    console: Console | None = None,
) -> Search:
    """Trains each start once at every rate and scores it on the validation scans; finished trainings are kept.

    Args:
        config: Common settings, limited to the amount of labels.
        arms: Start to how it is trained, apart from the rate.
        rates: Peak learning rates to try.
        amount: The amount of labels, in words.
        folder: Folder for the runs.
        console: Where trainings show their progress.

    Raises:
        TrainingError: A start fails at every rate.
        OutputError: A file cannot be written.
    """
    attempts = []
    for start, arm in arms.items():
        own = [_attempt(config, replace(arm, peak_lr=rate), folder, console) for rate in rates]
        if all(attempt.dice is None for attempt in own):
            raise TrainingError(
                f"'{start}' failed at every learning rate: {own[0].failed}", where=folder, fix="try others: --rates"
            )
        attempts += own
    return Search(amount, tuple(attempts))


def require_validation(ready: Ready) -> None:
    """Raises ConfigError if no labelled scan is held out for validation."""
    if not ready.division.val:
        raise ConfigError(
            "learning rates are chosen on validation patients, but none has a labelled scan",
            where=ready.store.path,
            fix="choose one: --data.holdout.patients.overrides PATIENT val; or give at most one of --rates",
        )


def validation_dice(run: Path, store: Path, progress: Progress | None = None) -> dict[str, float]:
    """Validation scan to the mean Dice of its classes; whole scans are segmented, as for the test.

    Args:
        run: A segmentation run.
        store: The run's store.
        progress: Called before the first and after every superpatch of a scan.
    """
    loaded = load_segmenter(run)
    scans = ScanStore(store)
    config = replace(loaded.config, data=replace(loaded.config.data, store=scans.path))
    _, labelled = annotated(scans, loaded.classes.names, partial=config.labels.partial)
    found = {}
    regions = divide(scans, labelled, config, loaded.model.backbone.config.superpatch).val
    counted = Windows(loaded.model, [region.entry.shape for region in regions], progress)
    for region in regions:
        scan = region.entry.scan_id
        held = held_out(region)
        predicted = np.where(held, segment(loaded.model, scans.volume(scan).array, counted.of(scan)), 0)
        truth = np.where(held, loaded.classes.read(scans, scan, (0, 0, 0), region.entry.shape), 0)
        marked = [number for number, told in enumerate(loaded.classes.marked(region.entry), start=1) if told]
        found[scan] = mean_of([_dice(predicted == number, truth == number) for number in marked])
    return found


def _attempt(config: FinetuneConfig, arm: Arm, folder: Path, console: Console | None) -> Attempt:
    run = folder / f"{arm.start}-{arm.peak_lr:g}"
    kept = run / "validation.json"
    store = config.data.only_store("--data.store STORE, prepared with --labels")
    try:
        if not kept.is_file():
            own = arm.settings(replace(config, seed=SEED))
            outcome = finetune_segmentation(own, run, console=console, name_classes=False)
            if outcome.status == "interrupted":
                raise KeyboardInterrupt
            with scan_bar(console or Console(quiet=True), "scoring") as shown:
                write_json(kept, validation_dice(run, store, shown))
    except OutputError:
        raise  # it is no fault of the rate, and the next trainings would fail, too
    except MaesilError as error:
        return Attempt(arm.start, arm.peak_lr, failed=" ".join(str(error).split()))
    dice = mean_of(list(json.loads(kept.read_text(encoding="utf-8")).values()))
    if not math.isfinite(dice):
        return Attempt(arm.start, arm.peak_lr, failed="no validation scan has a voxel of the classes")
    return Attempt(arm.start, arm.peak_lr, dice)


def _dice(ours: npt.NDArray[np.bool_], theirs: npt.NDArray[np.bool_]) -> float:
    """Dice of two masks; NaN if both are empty."""
    marked = int(ours.sum()) + int(theirs.sum())
    return 2 * int((ours & theirs).sum()) / marked if marked else math.nan
