"""Nodules of LIDC-IDRI as masks: filled outlines, grouped by nodule, with a consensus of the readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

from maesil.datasets.lidc_xml import Mark, Outline, Reading
from maesil.errors import ScanError

CONSENSUS = 0.5
"""Share of a nodule's readers that must include a voxel."""


@dataclass(frozen=True)
class SliceStack:
    """The properties of a series' slices that marks depend on.

    Attributes:
        index: Map from SOP instance UID to index along the stack.
        shape: Shape of (slices, rows, columns).
        spacing_mm: Spacing along (slices, rows, columns).
    """

    index: Mapping[str, int]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Nodule:
    """Marks of one nodule by one or more readers.

    Attributes:
        marks: One or more marks; a reader may have marked it twice.
        masks: One mask per mark, on the voxels of the stack.
        absent: Number of outlines on slices that are not in the stack; the masks lack them.
    """

    marks: tuple[Mark, ...]
    masks: tuple[Bool[np.ndarray, "d h w"], ...]
    absent: int

    @property
    def readers(self) -> int:
        """Number of radiologists who outlined it."""
        return len({mark.reader for mark in self.marks})

    def consensus(self, share: float = CONSENSUS) -> Bool[np.ndarray, "d h w"]:
        """Voxels that at least this share of its readers include."""
        by_reader: dict[int, Bool[np.ndarray, "d h w"]] = {}
        for mark, mask in zip(self.marks, self.masks, strict=True):
            by_reader[mark.reader] = by_reader.get(mark.reader, np.zeros_like(mask)) | mask
        votes = np.sum(list(by_reader.values()), axis=0)
        agreed: Bool[np.ndarray, "d h w"] = votes >= max(1, share * len(by_reader))
        return agreed


def nodules_of(reading: Reading, stack: SliceStack) -> list[Nodule]:
    """The outlined nodules (3 mm or more) of a reading, those with most readers first.

    Two marks belong to one nodule if they come within a slice's thickness of each other, whether or not the slices are
    in the stack.

    Raises:
        ScanError: An outline leaves the image, so the XML belongs to another series.
    """
    marks = [mark for mark in reading.marks if mark.kind == "nodule"]
    groups = _groups([_points_mm(mark, stack) for mark in marks], reach_mm=max(stack.spacing_mm))
    found = [_nodule([marks[number] for number in group], stack) for group in groups]
    return sorted(found, key=lambda nodule: -nodule.readers)


def mask_of(mark: Mark, stack: SliceStack) -> Bool[np.ndarray, "d h w"]:
    """The voxels that a reader outlined; slices that are not in the stack are left out."""
    mask = np.zeros(stack.shape, dtype=bool)
    for outline in sorted(mark.outlines, key=lambda outline: not outline.inclusion):  # holes last
        index = stack.index.get(outline.sop)
        if index is not None:
            inside = _filled(outline, stack.shape[1:])
            mask[index] = mask[index] | inside if outline.inclusion else mask[index] & ~inside
    return mask


def volume_mm3(mask: Bool[np.ndarray, "d h w"], spacing_mm: tuple[float, float, float]) -> float:
    """Volume of a mask in mm^3."""
    return float(mask.sum()) * float(np.prod(spacing_mm))


def _nodule(marks: Sequence[Mark], stack: SliceStack) -> Nodule:
    absent = sum(outline.sop not in stack.index for mark in marks for outline in mark.outlines)
    return Nodule(tuple(marks), tuple(mask_of(mark, stack) for mark in marks), absent)


def _filled(outline: Outline, shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels that an outline encloses, without its own, which lie outside the nodule."""
    rows, columns = shape
    if any(not (0 <= x < columns and 0 <= y < rows) for x, y in outline.points):
        raise ScanError(
            f"an outline leaves the image of {columns} x {rows} pixels: this XML belongs to another series",
            fix="use the XML of this series",
        )
    image = Image.new("1", (columns, rows))
    if len(outline.points) > 2:
        ImageDraw.Draw(image).polygon(list(outline.points), fill=1, outline=1)
    inside = np.array(image, dtype=bool)
    for x, y in outline.points:
        inside[y, x] = False
    return inside


def _points_mm(mark: Mark, stack: SliceStack) -> Float[np.ndarray, "p 3"]:
    _, row_mm, column_mm = stack.spacing_mm
    points = [(out.z_mm, y * row_mm, x * column_mm) for out in mark.outlines for x, y in out.points]
    return np.array(points, dtype=np.float64)


def _groups(clouds: Sequence[Float[np.ndarray, "_ 3"]], reach_mm: float) -> list[list[int]]:
    """Groups of indices of marks that lie within reach of each other, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    trees = [cKDTree(cloud) for cloud in clouds]
    near = [
        (a, b)
        for a in range(len(trees))
        for b in range(a + 1, len(trees))
        if trees[a].count_neighbors(trees[b], reach_mm) > 0
    ]
    pairs = np.array(near, dtype=np.int64).reshape(-1, 2)
    linked = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(trees), len(trees)))
    count, labels = connected_components(linked, directed=False)
    return [np.flatnonzero(labels == group).tolist() for group in range(count)]
