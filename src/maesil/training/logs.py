"""One CSV file per run that survives interruptions."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any, final

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

COLUMNS = (
    "step",
    "loss",
    "learning_rate",
    "val_psnr_masked",
    "val_dice",
    "superpatches_per_s",
    "data_wait_share",
    "memory_gib",
    "error",
    "kl_nats",
    "latent_active_share",
    "codebook_revived",
    "codebook_usage",
    "codebook_perplexity",
)
"""Columns of metrics.csv. The columns from "error" on are filled by some models only."""


@final
class CsvLog(Logger):
    """Appends rows to ``metrics.csv``. A resumed run drops the rows after its checkpoint and continues the file.

    Args:
        path: Path of the CSV file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._opened = False

    @property
    def name(self) -> str:
        """Name of the log, for Lightning."""
        return self.path.stem

    @property
    def version(self) -> int | str | None:
        """None, as a run has one log."""
        return None

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """Path of the CSV file."""
        return self.path

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the run's config.yaml holds the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Appends one row."""
        step = int(step or 0)
        if not self._opened:
            self._open(step)
        known = {name: value for name, value in metrics.items() if name in COLUMNS}
        if known:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow({"step": step, **known})

    def _open(self, first_step: int) -> None:
        rows = [row for row in read_log(self.path) if int(row["step"]) < first_step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        with fresh.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        fresh.replace(self.path)
        self._opened = True


def read_log(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a run's metrics.csv; an empty list if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]


def curve(path: Path, column: str) -> tuple[list[int], list[float]]:
    """Reads one column: the steps at which it was logged, and its values."""
    rows = [(int(row["step"]), float(row[column])) for row in read_log(path) if row.get(column)]
    return [step for step, _ in rows], [value for _, value in rows]
