"""Superpatches with labels: which scans have the requested classes, where they lie, and what is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Int16, Int64, UInt
from torch import Tensor

from maesil.catalog import nearest
from maesil.counts import some_of
from maesil.errors import ConfigError, StoreError
from maesil.sampling.dataset import begin_all, insides
from maesil.sampling.plan import Place, Plan
from maesil.sampling.regions import Region
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanEntry, ScanStore

KEPT_VOXELS = 4096
"""Number of labelled voxels kept per scan and class; crops are drawn around them."""


class LabelledSuperpatches(NamedTuple):
    """A batch as read from disk.

    Attributes:
        hu: Voxels (b, 1, d, h, w) as int16 in HU.
        labels: Labels (b, 1, d, h, w) as int64: 0 is background, 1 to K are the classes.
        numbers: Draw numbers, counted over the whole run.
        places: Place of each superpatch.
        inside: Number of voxels (b, 3) along each axis that lie inside the scan, as in `Superpatches`.
        marked: Whether the scan of each superpatch was annotated for each class.
    """

    hu: Int16[Tensor, "b 1 d h w"]
    labels: Int64[Tensor, "b 1 d h w"]
    numbers: list[int]
    places: list[Place]
    inside: Int64[Tensor, "b 3"]
    marked: list[tuple[bool, ...]]


@dataclass(frozen=True)
class Classes:
    """The classes to segment.

    Attributes:
        names: Names in the order of their numbers, from 1 on; 0 is everything else.
    """

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def numbers(self, entry: ScanEntry) -> npt.NDArray[np.int64]:
        """Lookup table from a scan's label numbers to class numbers."""
        assert entry.labels is not None
        table = np.zeros(2 + max(entry.labels.values(), default=0), dtype=np.int64)
        for number, name in enumerate(self.names, start=1):
            if name in entry.labels:
                table[entry.labels[name]] = number
        return table

    def marked(self, entry: ScanEntry) -> tuple[bool, ...]:
        """Whether a scan was annotated for each class; in others, it might be there but unmarked."""
        return tuple(name in (entry.labels or ()) for name in self.names)

    def read(self, store: ScanStore, scan_id: str, start: Shape3, shape: Shape3) -> npt.NDArray[np.int64]:
        """Classes in a box of a scan; labels that were not requested are background."""
        return self.among(store.entry(scan_id), store.read_labels(scan_id, start, shape))

    def among(self, entry: ScanEntry, stored: UInt[np.ndarray, "d h w"]) -> npt.NDArray[np.int64]:
        """Classes of a scan's label numbers; labels that were not requested are background."""
        table = self.numbers(entry)
        found: npt.NDArray[np.int64] = table[np.minimum(stored, len(table) - 1)]
        return found


def annotated(store: ScanStore, names: Sequence[str], *, partial: bool = False) -> tuple[Classes, tuple[str, ...]]:
    """The classes, and the scans that were annotated for all of them, or for some.

    A scan counts if its labels name every class, found or not: in others, a structure might be there but unmarked.

    Args:
        store: Store prepared with labels.
        names: Names of structures; if empty, all that every labelled scan names, or with `partial`, any.
        partial: Whether a scan counts if its labels name at least one class.

    Raises:
        StoreError: No scan of the store has labels.
        ConfigError: A name is unknown, or no scan names all of them.
    """
    labelled = labelled_entries(store)
    counts = Counter(name for entry in labelled for name in entry.labels or ())
    shared = (name for name, count in counts.items() if partial or count == len(labelled))
    chosen = tuple(dict.fromkeys(names)) or tuple(sorted(shared))
    unknown = [name for name in chosen if name not in counts]
    if unknown:
        guess = nearest(unknown[0], counts)
        known = some_of(sorted(counts), whole=f"all in manifest.json of {store.where}")
        hint = f"did you mean '{guess}'? " if guess else ""
        unnamed = "; `maesil prepare --label-names` gives names to numbers" if "label_1" in counts else ""
        raise ConfigError(
            f"no scan has the class '{unknown[0]}'", where=store.path, fix=f"{hint}known: {known}{unnamed}"
        )
    classes = Classes(chosen)
    scans = scans_marking(store, classes, partial=partial)
    if not scans or not chosen:
        listed = ", ".join(f"{name} ({counts[name]})" for name in chosen) or "the labelled scans share none"
        named = "name fewer classes" if names else "name the classes"
        fix = f"{named}; finetune segmentation --labels.partial also uses scans in which some are marked"
        raise ConfigError(f"no scan was annotated for all of these classes: {listed}", fix=fix)
    return classes, scans


def labelled_entries(store: ScanStore) -> tuple[ScanEntry, ...]:
    """The scans of a store that have labels.

    Raises:
        StoreError: No scan of the store has labels.
    """
    labelled = tuple(entry for entry in store.entries if entry.labels is not None)
    if not labelled:
        fix = "prepare the scans with --labels, with their label files next to them"
        raise StoreError("no scan of this store has labels", where=store.path, fix=fix)
    return labelled


def scans_marking(store: ScanStore, classes: Classes, *, partial: bool = False) -> tuple[str, ...]:
    """The labelled scans that were annotated for all classes, or with `partial`, for at least one; maybe none.

    Raises:
        StoreError: No scan of the store has labels.
    """
    enough = any if partial else all
    return tuple(entry.scan_id for entry in labelled_entries(store) if enough(classes.marked(entry)))


@dataclass(frozen=True)
class Marks:
    """Positions of the classes in a scan.

    Attributes:
        voxels: Map from class number to some of its voxels (n, 3).
    """

    voxels: dict[int, npt.NDArray[np.int64]]


def marks_of(store: ScanStore, classes: Classes, region: Region, seed: int) -> Marks:
    """Up to `KEPT_VOXELS` voxels of every class in a scan's region, drawn uniformly.

    Labels in superpatches that are held out for other splits have no influence.

    Args:
        store: Store prepared with labels.
        classes: Classes to segment.
        region: Part of the scan that is trained on.
        seed: Seed of the draws.
    """
    labels = classes.read(store, region.entry.scan_id, (0, 0, 0), region.entry.shape)
    if region.forbidden:
        labels[~_reachable(region)] = 0
    random = np.random.default_rng((seed, len(classes)))
    found = {}
    for number in range(1, len(classes) + 1):
        voxels = np.argwhere(labels == number)
        if len(voxels):
            keep = random.choice(len(voxels), size=min(KEPT_VOXELS, len(voxels)), replace=False)
            found[number] = voxels[np.sort(keep)]
    return Marks(found)


def _reachable(region: Region) -> Bool[np.ndarray, "d h w"]:
    """The voxels of the scan that lie in some superpatch that touches none held out for other splits."""
    reached = np.zeros(region.tiling.shape, dtype=np.bool_)
    ends = _ends(region)
    reached[: ends[0], : ends[1], : ends[2]] = region.allowed_origins((0, 0, 0), ends)
    for axis, edge in enumerate(region.tiling.tile):
        # A voxel is reached along an axis if one of the `edge` origins up to it is allowed.
        origins = np.moveaxis(np.cumsum(reached, axis=axis, dtype=np.int32), axis, 0)
        origins[edge:] -= origins[:-edge].copy()
        reached = np.moveaxis(origins, 0, axis) > 0
    return reached


def _ends(region: Region) -> Shape3:
    """One past the last origin along each axis at which a superpatch lies inside the scan."""
    d, h, w = (max(0, size - edge) + 1 for size, edge in zip(region.tiling.shape, region.tiling.tile, strict=True))
    return d, h, w


@final
class ForegroundPlan:
    """Crops, a share of them around a labelled voxel: classes are equally likely, and so are the scans of each.

    No crop touches a superpatch that its region holds out for another split.

    Args:
        regions: Regions of the training scans.
        marks: Positions of the classes from `marks_of`, in the order of `regions`.
        plain: Plan for the other crops.
        share: Share of crops around a labelled voxel, in [0, 1].
        seed: Seed of all draws.

    Raises:
        StoreError: None of the scans has a voxel of the classes.
    """

    def __init__(self, regions: Sequence[Region], marks: Sequence[Marks], plain: Plan, share: float, seed: int) -> None:
        self._regions, self._marks, self._plain = list(regions), list(marks), plain
        self._share, self._seed = share, seed
        numbers = sorted({number for one in marks for number in one.voxels})
        self._holders = {number: [at for at, one in enumerate(marks) if number in one.voxels] for number in numbers}
        if share and not numbers:
            raise StoreError("no training scan has a voxel of these classes", fix="choose other classes or scans")

    def __len__(self) -> int:
        return len(self._plain)

    def place(self, number: int) -> Place:
        """The place of the draw `number`."""
        random = np.random.default_rng((self._seed, 1, number))
        if random.random() >= self._share:
            return self._plain.place(number)
        wanted = int(random.choice(list(self._holders)))
        at = int(random.choice(self._holders[wanted]))
        voxels = self._marks[at].voxels[wanted]
        return _around(self._regions[at], voxels[int(random.integers(len(voxels)))], random)


def _around(region: Region, voxel: npt.NDArray[np.int64], random: np.random.Generator) -> Place:
    """A random superpatch that contains the voxel, inside the scan where possible, and allowed by the region."""
    edges, ends = region.tiling.tile, _ends(region)
    starts = [int(voxel[axis]) - int(random.integers(edges[axis])) for axis in range(3)]
    d, h, w = (min(max(0, start), end - 1) for start, end in zip(starts, ends, strict=True))
    origin = (d, h, w)
    return Place(region.entry.scan_id, origin if region.is_allowed(origin) else _beside(region, voxel, random))


def _beside(region: Region, voxel: npt.NDArray[np.int64], random: np.random.Generator) -> Shape3:
    """The origin of a superpatch that contains the voxel: a random one of those that the region allows."""
    edges, ends = region.tiling.tile, _ends(region)
    low = [max(0, int(voxel[axis]) - edges[axis] + 1) for axis in range(3)]
    high = [min(int(voxel[axis]) + 1, ends[axis]) for axis in range(3)]
    allowed = np.argwhere(region.allowed_origins((low[0], low[1], low[2]), (high[0], high[1], high[2])))
    d, h, w = (allowed[int(random.integers(len(allowed)))] + low).tolist()
    return d, h, w


@final
class LabelledDataset:
    """Superpatches with labels, indexed by draw number.

    Args:
        store: Store prepared with labels.
        classes: Classes to segment.
        plan: Plan that says which superpatch comes when.
        superpatch: Shape of a superpatch in voxels.
        count: Number of draws that count, as in `SuperpatchDataset`; None: all.
    """

    def __init__(
        self, store: ScanStore, classes: Classes, plan: Plan, superpatch: Shape3, count: int | None = None
    ) -> None:
        self.store, self.classes, self.plan, self.superpatch = store, classes, plan, superpatch
        self.count = count

    def __getitem__(self, number: int) -> LabelledSuperpatches:
        return self.begin([number])()

    def begin(self, numbers: Sequence[int], *, pinned: bool = False) -> Callable[[], LabelledSuperpatches]:
        """Begins to read a batch; see `Draws.begin`."""
        store, places = self.store, [self.plan.place(number) for number in numbers]
        shape = (len(places), 1, *self.superpatch)
        hu, labels = (torch.empty(shape, dtype=dtype, pin_memory=pinned) for dtype in (torch.int16, torch.int64))
        stored = np.empty(shape, dtype=np.uint16)
        readings = begin_all(store, hu, places)
        readings += [
            store.begin_labels(box, place.scan_id, place.origin)
            for box, place in zip(stored[:, 0], places, strict=True)
        ]
        inside = insides(store, numbers, places, self.superpatch, self.count)
        marked = [self.classes.marked(store.entry(place.scan_id)) for place in places]

        def finish() -> LabelledSuperpatches:
            for reading in readings:
                reading.wait()
            for box, numbered, place in zip(labels.numpy()[:, 0], stored[:, 0], places, strict=True):
                box[:] = self.classes.among(store.entry(place.scan_id), numbered)
            return LabelledSuperpatches(hu, labels, list(numbers), places, inside, marked)

        return finish
