"""Train/validation/test splits by patient, stable when other patients are added or removed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

from maesil.catalog import unknown_name
from maesil.errors import ConfigError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitConfig:
    """How patients are divided into splits.

    Args:
        fractions: Expected shares of train, val and test; they sum to 1.
        seed: Seed of the split; another seed gives another split.
        overrides: Map from patient to split, for splits that are given rather than drawn.

    Raises:
        ConfigError: The fractions do not sum to 1, or an override does not name a split.
    """

    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    overrides: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.fractions) < 0 or not math.isclose(sum(self.fractions), 1.0, abs_tol=1e-6):
            fix = "give three shares, of train, val and test, such as 0.8 0.1 0.1"
            raise ConfigError(f"the fractions {self.fractions} are not shares that sum to 1", fix=fix)
        for split in self.overrides.values():
            if split not in SPLITS:
                raise unknown_name("split", split, SPLITS)


def split_of(patient: str, config: SplitConfig) -> str:
    """The split of a patient, which depends only on the patient's name, the fractions and the seed.

    All scans of a patient are in one split, and a patient keeps its split when others are added. Shares hold on
    average: with few patients a split can be empty; use `overrides` then.

    Returns:
        "train", "val" or "test".
    """
    if patient in config.overrides:
        return config.overrides[patient]
    drawn = rank_of(patient, config)
    train, val, test = config.fractions
    if drawn < train:
        return "train"
    # Rounding in the sum must not open a test split that was given no share.
    return "val" if drawn < train + val or test == 0 else "test"


def rank_of(patient: str, config: SplitConfig) -> float:
    """A number in [0, 1) that depends only on the patient's name and the seed."""
    digest = hashlib.sha256(f"{config.seed}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
