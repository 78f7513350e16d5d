"""The command `finetune classification`, on a store and a CSV file."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from maesil.files import AnyPath
from maesil.progress import Progress
from maesil.store.scanstore import ScanStore
from maesil.tasks.classification.cases import read_cases
from maesil.tasks.classification.config import ClassificationConfig
from maesil.tasks.classification.train import Classified, classify


def finetune_classification(
    config: ClassificationConfig,
    store: AnyPath,
    labels: AnyPath,
    run: AnyPath,
    *,
    label: str | None = None,
    console: Console | None = None,
    progress: Progress | None = None,
) -> Classified:
    """Classifies whole scans from a CSV of classes, cross-validated by patient.

    Args:
        config: Encoder, mode, folds.
        store: The scans.
        labels: CSV file with a column scan_id (or patient) and a column of classes.
        run: The run folder to write.
        label: The column of classes; None: the only other column.
        console: Where trainings show their progress.
        progress: Called after every scan.

    Raises:
        ConfigError: The labels do not match the store, or the folds are impossible.
    """
    store, labels, run = Path(store), Path(labels), Path(run)
    scans = ScanStore(store, resident_gib=config.efficiency.resident_gib)
    cases = read_cases(labels, scans, label)
    return classify(config, scans, cases, run, console=console, progress=progress)
