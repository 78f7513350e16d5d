"""What is drawn from a store, and what is held out."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.counts import count_of
from maesil.ct.window import Window
from maesil.datasets.splits import SplitConfig
from maesil.datasets.weighting import Weighting, power_of
from maesil.errors import ConfigError


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class HoldoutConfig:
    """How a store is divided into train, val and test.

    Args:
        by: Unit that is held out. "patient" holds out whole patients, by a hash that never changes. "superpatch" holds
            out superpatches of every scan: only for a single patient, as a test superpatch's neighbours are trained on.
        patients: Shares and overrides of the split by patient.
        val_superpatches: Number of superpatches per scan held out for validation, with ``by="superpatch"``.
        test_superpatches: Number of superpatches per scan held out for testing, with ``by="superpatch"``.
            If a scan has fewer than both settings require, they are divided in proportion, with at least one for each.
        held_tissue: Smallest share of tissue in a superpatch held out for val or test, with ``by="superpatch"``.
        train_only: Datasets that are only trained on, never scored.
        given: Whether to use the splits that the store has from its collections or its list; overrides come first.
    """

    by: Literal["patient", "superpatch"] = "patient"
    patients: SplitConfig = field(default_factory=SplitConfig)
    val_superpatches: NonNegativeInt = 1
    test_superpatches: PositiveInt = 4
    held_tissue: float = 0.25
    train_only: tuple[str, ...] = ()
    given: bool = True


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DataConfig:
    """The data of a run.

    Args:
        store: Prepared store to train on, or several, with different voxels if you like: a model then sees one size of
            patch in several sizes of millimetres.
        store_weights: Weight of each of several stores; None: in proportion to its superpatches. Within a store, the
            datasets are weighted as `weighting` says.
        sampling: Source of superpatches: "random" crops anywhere, or the paper's non-overlapping "grid".
        padded_crops: Whether random crops may extend past the far ends of a scan, into the air that a tiling pads with:
            whole scans are rebuilt from such superpatches, so training should include them (docs/lab.md).
        min_tissue: Smallest share of tissue (above -500 HU); superpatches with less are skipped as air.
        weighting: Weight of each dataset. "by-scan": in proportion to its superpatches; "by-dataset": all equal;
            "temperature": in proportion to its superpatches to the power `temperature`, between the two.
        temperature: Exponent for "temperature": 1 is "by-scan", 0 is "by-dataset".
        superpatches_per_pass: Number of random crops in one pass over the store; None: as many as the grid has.
        flip_axes: Axes flipped at random in training; 0: S, 1: P, 2: L.
        window: HU window mapped to [0, 1].
        holdout: Settings of what is held out for validation and test.
    """

    store: Path | tuple[Path, ...] | None = None
    store_weights: tuple[PositiveFloat, ...] | None = None
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
            raise ConfigError(f"min_tissue is {self.min_tissue}", fix="choose a share of voxels in [0, 1)")
        power_of(self.weighting, self.temperature)
        # Two flips of an axis would be none.
        object.__setattr__(self, "flip_axes", tuple(dict.fromkeys(self.flip_axes)))
        # A checkpoint keeps the weights, but not the paths of the stores.
        if self.store_weights is not None and self.stores and len(self.store_weights) != len(self.stores):
            raise ConfigError(
                f"there are {len(self.store_weights)} weights for {count_of(len(self.stores), 'store')}",
                fix="--data.store-weights needs one number per store, in the order of --data.store",
            )
        if self.sampling == "grid" and (self.weighting != "by-scan" or self.store_weights is not None):
            raise ConfigError(
                "grid sampling takes every superpatch once, so datasets and stores cannot be weighted",
                fix="--data.sampling random, or --data.weighting by-scan without --data.store-weights",
            )

    @property
    def stores(self) -> tuple[Path, ...]:
        """The stores; none, one, or several."""
        if self.store is None:
            return ()
        return (self.store,) if isinstance(self.store, Path) else self.store

    def only_store(self, fix: str) -> Path:
        """The one store of work that takes no more.

        Args:
            fix: What to do if none is given.

        Raises:
            ConfigError: There is none, or there are several.
        """
        if not self.stores:
            raise ConfigError("no store is given", fix=fix)
        if len(self.stores) > 1:
            raise ConfigError(
                f"this takes one store, not {len(self.stores)}", fix="give one: several are for pretrain and evaluate"
            )
        return self.stores[0]

    @property
    def dataset_power(self) -> float:
        """The exponent of a dataset's number of superpatches in its weight."""
        return power_of(self.weighting, self.temperature)
