"""`maesil finetune classification`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from maesil.allocator import EVERYTHING, keep_freed_memory
from maesil.commands.parsing import Settings, console, parse
from maesil.errors import ConfigError
from maesil.screen import scan_bar
from maesil.tasks.classification.config import ClassificationConfig


@dataclass(frozen=True)
class FinetuneClassification:
    """Classify whole scans, cross-validated by patient: a probe of frozen features, or full fine-tuning.

    Labels are a CSV file with a column scan_id (or patient) and a column of classes. Writes RUN/predictions.csv,
    scores.json and table.md: AUROC, accuracy, calibration, confusion, with bootstrap intervals over patients.

    Examples:
      maesil finetune classification --init runs/base --data.store store --labels labels.csv --run runs/probe
      maesil finetune classification --init runs/base --data.store store --labels labels.csv --run runs/knn --mode knn
      maesil finetune classification --init runs/base --data.store store --labels labels.csv --run runs/full --mode full
    """

    config: Settings[ClassificationConfig]
    """The run's settings."""
    store: Annotated[Path | None, tyro.conf.arg(name="data.store", aliases=("--store",))] = None
    """The prepared store."""
    labels: Path | None = None
    """The CSV file of labels."""
    label: str | None = None
    """The CSV's column of classes; by default the only other column."""
    run: Path | None = None
    """The run folder to write."""


def main(words: Sequence[str]) -> int:
    """Cross-validates and prints the table."""
    default = FinetuneClassification(config=ClassificationConfig())
    call = parse(FinetuneClassification, "finetune classification", words, default)
    if call.store is None or call.labels is None or call.run is None:
        raise ConfigError("store, labels and run are required", fix="--data.store STORE --labels labels.csv --run RUN")
    from maesil import pipeline

    keep_freed_memory(EVERYTHING)  # this process does nothing but train
    screen = console()
    with scan_bar(screen, "classifying") as progress:
        done = pipeline.finetune_classification(
            call.config, call.store, call.labels, call.run, label=call.label, console=screen, progress=progress
        )
    print(done.table)  # noqa: T201 (the result, on standard output)
    return 0
