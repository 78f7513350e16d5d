"""Train/validation/test splits by patient."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from maesil.catalog import unknown_name
from maesil.errors import ConfigError

SPLITS = ("train", "val", "test")

NEEDED = ("train", "test", "val")
"""The splits, the most needed first: two patients are enough to train on one and to test on the other."""


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


def divide(patients: Iterable[str], config: SplitConfig, held: Sequence[str] = ()) -> dict[str, str]:
    """The split of every patient; no split that has a share is empty while there are patients for it.

    A hash of the patient's name draws its split (see `split_of`). If a split would be empty, the patient whose hash is
    nearest to it moves there from a split that can spare one: with two patients, one is for training and one for
    testing. So all other patients keep their split when patients are added or removed, but the moved one may return
    to the split of its hash when the added ones fill the empty split.

    Args:
        patients: Names of the patients to divide.
        config: Shares, seed and overrides; a patient with an override never moves.
        held: Splits of further patients, who have theirs already: one item per patient.

    Returns:
        Map from patient to "train", "val" or "test".
    """
    drawn = {patient: split_of(patient, config) for patient in sorted(set(patients))}
    count = Counter([*drawn.values(), *held])
    for place, split in enumerate(NEEDED):
        if count[split] or not config.fractions[SPLITS.index(split)]:
            continue
        movable = [name for name in drawn if name not in config.overrides]
        spare = [name for name in movable if count[drawn[name]] > 1]
        less_needed = [name for name in movable if drawn[name] in NEEDED[place + 1 :]]
        if spare or less_needed:
            moved = min(spare or less_needed, key=lambda name: _distance(rank_of(name, config), split, config))
            count[drawn[moved]] -= 1
            count[split] += 1
            drawn[moved] = split
    return drawn


def divide_together(
    patients: Sequence[tuple[str, str | None]], one_of: Mapping[str, str], config: SplitConfig
) -> dict[str, str]:
    """The split of every patient who has none yet; those who are one patient under several names have one split.

    Args:
        patients: Patients, each with the split that it has already; None: it has none.
        one_of: Map from patient to the name that stands for it and its copies (`maesil.datasets.copies`).
        config: Shares, seed and overrides.

    Returns:
        Map from the names that stand for patients to splits. If one of a patient's scans or names has its split
        already, the others follow; if several have different ones, the others follow the first of test, val, train.
    """
    given = {(patient, split) for patient, split in patients if split is not None}
    followed = {one_of[patient]: split for patient, split in sorted(given, key=lambda one: SPLITS.index(one[1]))}
    free = set(one_of.values()) - followed.keys()
    return divide(free, config, tuple(split for _, split in given)) | followed


def _distance(rank: float, split: str, config: SplitConfig) -> float:
    """Distance of a rank from the part of [0, 1) that belongs to a split."""
    place = SPLITS.index(split)
    low, high = sum(config.fractions[:place]), sum(config.fractions[: place + 1])
    return max(low - rank, rank - high, 0.0)


def split_of(patient: str, config: SplitConfig) -> str:
    """The split that the patient's override or hash gives, whoever else is there; `divide` fills empty splits.

    The hash depends only on the patient's name and the seed. Shares hold on average.

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
