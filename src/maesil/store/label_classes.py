"""The label classes that scans have in a store: their names and numbers, and in how many scans they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maesil.datasets.labels import unnamed_label
from maesil.store.format import LABELS
from maesil.store.location import kvstore_of
from maesil.store.zarr3 import open_array, writing_context


@dataclass(frozen=True)
class LabelClass:
    """A class of several scans' labels.

    Attributes:
        name: Name of the structure; `label_3` if nothing names the number 3.
        number: Its number in the stored labels; None if the scans have several.
        scans: Number of scans in which it has a voxel.
        is_named: Whether something names it.
    """

    name: str
    number: int | None
    scans: int
    is_named: bool


def numbers_in(scan: Path, edge: int) -> frozenset[int]:
    """The numbers of a stored scan's labels that have a voxel, without 0.

    Args:
        scan: Folder of the scan.
        edge: Number of planes that are read at once.

    Raises:
        ValueError: The labels are missing or damaged.
    """
    stored = open_array(kvstore_of(scan / LABELS), "", writing_context())
    found = set[int]()
    for start in range(0, stored.shape[0], edge):
        slab = np.asarray(stored[start : min(start + edge, stored.shape[0])].read().result())
        found.update(np.flatnonzero(np.bincount(slab.ravel())).tolist())
    return frozenset(found - {0})


def classes_among(scans: Iterable[tuple[Mapping[str, int], frozenset[int]]]) -> tuple[LabelClass, ...]:
    """The classes of several scans, in the order of their numbers; those of several numbers come last.

    Args:
        scans: The names of each scan's numbers, and its numbers that have a voxel.
    """
    numbers: dict[str, set[int]] = {}
    counts: dict[str, int] = {}
    for names, marked in scans:
        for name, number in names.items():
            numbers.setdefault(name, set()).add(number)
            counts[name] = counts.get(name, 0) + (number in marked)
    classes = [_label_class(name, numbers[name], count) for name, count in counts.items()]
    return tuple(sorted(classes, key=lambda one: (one.number is None, one.number or 0, one.name)))


def _label_class(name: str, numbers: set[int], scans: int) -> LabelClass:
    number = next(iter(numbers)) if len(numbers) == 1 else None
    return LabelClass(name, number, scans, is_named=number is None or name != unnamed_label(number))
