"""What is drawn from a store, and which part of it is kept for testing."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.ct.window import Window
from maesil.datasets.splits import SplitConfig
from maesil.datasets.weights import Weighting, power_of
from maesil.errors import ConfigError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class HoldoutConfig:
    """How a store is divided into train, val and test.

    Args:
        by: "patient" keeps whole patients apart, by a hash that never changes. "superpatch" keeps superpatches of every
            scan apart: for a single patient only, since neighbours of a test superpatch have been trained on.
        patients: Shares and overrides of the split by patient.
        val_superpatches: Superpatches per scan kept for validation, with ``by="superpatch"``.
        test_superpatches: Superpatches per scan kept for testing, with ``by="superpatch"``.
            A scan that has fewer than both ask for shares them out in proportion, at least one to each.
        held_tissue: Least share of tissue in a superpatch kept for val or test, with ``by="superpatch"``.
        train_only: Datasets that are trained on and never scored.
        given: Use the splits that the store carries from its collections or its list; patients' overrides come first.
    """

    by: Literal["patient", "superpatch"] = "patient"
    patients: SplitConfig = field(default_factory=SplitConfig)
    val_superpatches: NonNegativeInt = 1
    test_superpatches: PositiveInt = 4
    held_tissue: float = 0.25
    train_only: tuple[str, ...] = ()
    given: bool = True


@dataclass(frozen=True)
class DataConfig:
    """The data of a run.

    Args:
        store: The prepared store to train on.
        sampling: "random" crops anywhere, or the paper's non-overlapping "grid".
        padded_crops: Random crops may reach past the far ends of a scan, into the air that a tiling pads superpatches
            with: whole scans are rebuilt from such superpatches, so they should be known (docs/lab.md).
        min_tissue: Superpatches with a smaller share of tissue (above -500 HU) are skipped as air.
        weighting: How often each dataset is drawn from. "by-scan": as often as it has superpatches; "by-dataset": all
            equally often; "temperature": by the power `temperature` of its superpatches, between the two.
        temperature: 1 is "by-scan", 0 is "by-dataset".
        superpatches_per_pass: Random crops that count as one pass over the store; None: as many as the grid has.
        flip_axes: Axes flipped at random in training: 0 = S, 1 = P, 2 = L.
        window: HU window mapped to [0, 1].
        holdout: What is kept for validation and test.
    """

    store: Path | None = None
    sampling: Literal["random", "grid"] = "random"
    padded_crops: bool = True
    min_tissue: float = 0.05
    weighting: Weighting = "by-scan"
    temperature: float = 0.5
    superpatches_per_pass: PositiveInt | None = None
    flip_axes: tuple[Literal[0, 1, 2], ...] = (0, 1, 2)
    window: Window = field(default_factory=Window)
    holdout: HoldoutConfig = field(default_factory=HoldoutConfig)

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_tissue < 1.0:
            raise ConfigError(f"min_tissue is {self.min_tissue}", fix="a share of voxels lies in [0, 1)")
        power_of(self.weighting, self.temperature)
        if self.sampling == "grid" and self.weighting != "by-scan":
            raise ConfigError(
                "grid sampling takes every superpatch once, so datasets cannot weigh more or less",
                fix="--data.sampling random, or --data.weighting by-scan",
            )

    @property
    def dataset_power(self) -> float:
        """The power of a dataset's superpatches that it is drawn by."""
        return power_of(self.weighting, self.temperature)
