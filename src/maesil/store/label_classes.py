"""The label classes that scans have in a store: their names and numbers, and in how many scans they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.datasets.labels import unnamed_label
from maesil.files import read_json
from maesil.store.collection import write_atomically
from maesil.store.format import LABELS
from maesil.store.location import kvstore_of
from maesil.store.zarr3 import open_array, writing_context

_NUMBERS = "numbers"
"""Attribute of an array of labels: the numbers that have a voxel, without 0."""


@dataclass(frozen=True)
class LabelClass:
    """A class of several scans' labels.

    Attributes:
        name: Name of the structure; `label_3` if nothing names the number 3.
        number: Its number in the stored labels; None if the scans have several.
        scans: Number of scans in which it has a voxel.
        is_named: Whether something names it.
        background: Number of scans whose labels name it and have no voxel of it: it counts as absent there.
        unmarked: Number of scans whose labels do not name it: it may be there.
    """

    name: str
    number: int | None
    scans: int
    is_named: bool
    background: int
    unmarked: int


def numbers_in(labels: npt.NDArray[Any]) -> frozenset[int]:
    """The numbers of labels that have a voxel, without 0; counted by planes, as counting copies what it counts."""
    found = set[int]()
    for plane in labels:
        found.update(np.flatnonzero(np.bincount(plane.ravel())).tolist())
    return frozenset(found - {0})


def record_numbers(metadata: Mapping[str, Any], numbers: frozenset[int]) -> dict[str, Any]:
    """The zarr.json of an array of labels, with the numbers that have a voxel: they are then known without reading it.

    They are not in the scan's row, as that would make another store of one that was prepared before.
    """
    return {**metadata, "attributes": {**metadata["attributes"], "maesil": {_NUMBERS: sorted(numbers)}}}


def stored_numbers(scan: Path, edge: int) -> frozenset[int]:
    """The numbers of a stored scan's labels that have a voxel, without 0.

    Voxels are read only if an earlier version, which recorded no numbers, has written them; the numbers are then
    recorded.

    Args:
        scan: Folder of the scan.
        edge: Number of planes that are read at once.

    Raises:
        OSError: The labels are missing.
        ValueError: The labels are damaged.
    """
    path = scan / LABELS / "zarr.json"
    metadata = read_json(path)
    recorded = metadata.get("attributes", {}).get("maesil", {}).get(_NUMBERS)
    if recorded is not None:
        return frozenset(recorded)
    stored = open_array(kvstore_of(scan / LABELS), "", writing_context())
    planes = stored.shape[0]
    slabs = (stored[start : min(start + edge, planes)].read().result() for start in range(0, planes, edge))
    found = frozenset(number for slab in slabs for number in numbers_in(slab))
    with suppress(OSError):  # a folder that takes no file: the next call counts again
        write_atomically(path, json.dumps(record_numbers(metadata, found), indent=2))
    return found


def classes_among(scans: Iterable[tuple[Mapping[str, int], frozenset[int]]]) -> tuple[LabelClass, ...]:
    """The classes of several scans, in the order of their numbers; those of several numbers come last.

    Args:
        scans: The names of each scan's numbers, and its numbers that have a voxel.
    """
    labelled = list(scans)
    numbers: dict[str, set[int]] = {}
    for names, _ in labelled:
        for name, number in names.items():
            numbers.setdefault(name, set()).add(number)
    classes = [_label_class(name, numbers[name], labelled) for name in numbers]
    return tuple(sorted(classes, key=lambda one: (one.number is None, one.number or 0, one.name)))


def _label_class(
    name: str, numbers: set[int], labelled: Sequence[tuple[Mapping[str, int], frozenset[int]]]
) -> LabelClass:
    number = next(iter(numbers)) if len(numbers) == 1 else None
    naming = [(names[name], marked) for names, marked in labelled if name in names]
    found = sum(own in marked for own, marked in naming)
    return LabelClass(
        name,
        number,
        found,
        is_named=number is None or name != unnamed_label(number),
        background=len(naming) - found,
        unmarked=len(labelled) - len(naming),
    )
