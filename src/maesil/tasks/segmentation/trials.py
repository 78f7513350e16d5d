"""The parts of a label-efficiency experiment: amounts of labels, and trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from maesil.counts import count_of
from maesil.tasks.segmentation.arms import Arm
from maesil.tasks.segmentation.config import LabelsConfig
from maesil.tasks.segmentation.rates import Search


@dataclass(frozen=True)
class Amount:
    """An amount of labels.

    Attributes:
        scans: Number of labelled scans; None: all.
        share: Share of their superpatches; None: random crops anywhere.
    """

    scans: int | None = None
    share: float | None = None

    def __str__(self) -> str:
        if self.scans is not None:
            return count_of(self.scans, "scan")
        return "all scans" if self.share is None else f"{100 * self.share:g}% of superpatches"

    @property
    def rounded(self) -> str:
        """The amount as version 0.2.0 wrote it, with shares in whole per cent."""
        return str(self) if self.share is None else f"{self.share:.0%} of superpatches"

    @property
    def folder(self) -> str:
        """The amount as a folder name."""
        return f"scans-{self.scans}" if self.scans is not None else f"share-{self.share or 'all'}"

    def limit(self, labels: LabelsConfig) -> LabelsConfig:
        """The label settings, limited to this amount."""
        return replace(labels, scans=self.scans, share=self.share)


@dataclass(frozen=True)
class Trial:
    """One training of the experiment.

    Attributes:
        amount: Amount of labels.
        start: "pre-trained" or "scratch".
        seed: Seed of label subset, decoder weights and data order.
        rows: Scores per scan and class; empty if the training failed.
        failed: Why the training failed; None if it did not.
    """

    amount: Amount
    start: str
    seed: int
    rows: tuple[dict[str, Any], ...] = ()
    failed: str | None = None

    @property
    def name(self) -> str:
        """The trial in words."""
        return f"{self.amount}, {self.start}, seed {self.seed}"


@dataclass(frozen=True)
class Experiment:
    """All trials and their settings.

    Attributes:
        trials: Trials in the order they were run.
        settings: The common settings, without local paths.
        commit: Git commit of the code; None: unknown.
        arms: Start to how it was trained.
        search: How the learning rates were chosen; None: they were given.
        notes: Lines below the table: which test patients the encoder was trained on.
    """

    trials: tuple[Trial, ...]
    settings: dict[str, Any]
    commit: str | None
    arms: Mapping[str, Arm]
    search: Search | None = None
    notes: tuple[str, ...] = ()
