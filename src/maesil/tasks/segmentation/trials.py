"""What a label-efficiency experiment consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from maesil.tasks.segmentation.arms import Arm
from maesil.tasks.segmentation.config import LabelsConfig
from maesil.tasks.segmentation.rates import Search
from maesil.tasks.segmentation.tables import mean_of


@dataclass(frozen=True)
class Amount:
    """How much is labelled.

    Attributes:
        scans: Labelled scans; None: all.
        share: Share of their superpatches; None: crops anywhere.
    """

    scans: int | None = None
    share: float | None = None

    def __str__(self) -> str:
        if self.scans is not None:
            return f"{self.scans} scan{'s' if self.scans > 1 else ''}"
        return "all scans" if self.share is None else f"{self.share:.0%} of superpatches"

    @property
    def folder(self) -> str:
        """As a folder's name."""
        return f"scans-{self.scans}" if self.scans is not None else f"share-{self.share or 'all'}"

    def limit(self, labels: LabelsConfig) -> LabelsConfig:
        """The labels' settings, cut to this amount."""
        return replace(labels, scans=self.scans, share=self.share)


@dataclass(frozen=True)
class Trial:
    """One training of the experiment.

    Attributes:
        amount: How much is labelled.
        start: "pre-trained" or "scratch".
        seed: Of subset, decoder and order.
        rows: Scores per scan and class; empty where it failed.
        failed: Why it has none.
    """

    amount: Amount
    start: str
    seed: int
    rows: tuple[dict[str, Any], ...] = ()
    failed: str | None = None

    def dice(self) -> dict[str, float]:
        """Scan to the mean Dice of its classes; a structure that is neither there nor found is not counted."""
        scans = dict.fromkeys(str(row["scan"]) for row in self.rows)
        return {scan: mean_of([row["dice"] for row in self.rows if row["scan"] == scan]) for scan in scans}


@dataclass(frozen=True)
class Experiment:
    """All trials, and what they were.

    Attributes:
        trials: In the order they were made.
        settings: The common settings, without paths of a machine.
        commit: Of the code.
        arms: Start to how it was trained.
        search: How its learning rates were chosen; None: they were given.
        notes: Lines below the table: whom the encoder saw before.
    """

    trials: tuple[Trial, ...]
    settings: dict[str, Any]
    commit: str | None
    arms: Mapping[str, Arm]
    search: Search | None = None
    notes: tuple[str, ...] = ()
