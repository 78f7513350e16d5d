"""A scan's labels in the store: resampled to its voxels by nearest neighbour, and stored next to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import Geometry
from maesil.ct.readers import read_labels
from maesil.ct.resample import resample_to
from maesil.ct.volume import Volume
from maesil.datasets import Scan
from maesil.datasets.labels import image_files, structure_of, unnamed_label
from maesil.errors import ScanError
from maesil.store.arrays import blosc
from maesil.store.format import LABELS
from maesil.store.label_classes import numbers_in, record_numbers
from maesil.store.settings import PrepareConfig
from maesil.store.zarr3 import array_metadata, create_array, write_box, writing_context

GRID_TOLERANCE_MM = 0.5
"""Distance between corners of labels and scan that is more than a header's rounding."""
GRID_TOLERANCE_VOXELS = 0.25
"""The same in voxels along each axis: labels within either tolerance are on the scan's grid."""

Array = npt.NDArray[Any]


def write_labels(draft: Path, scan: Scan, source: Geometry, target: Geometry, config: PrepareConfig) -> dict[str, int]:
    """Writes the array `labels` into a scan's draft; returns a map from structure to number.

    With a file per structure, numbers follow the order of the file names. A single file of numbers takes its names from
    `--label-names`, then from the layout or a file beside it; if 1 is its only number and unnamed, it takes the file's
    suffix, and other unnamed numbers become label_3. Numbers of one name become the lowest of them. No name has a part
    of the scan's own, which may be a patient's. With `missing_labels` "unmarked", structures without a voxel are left
    out.

    Raises:
        ScanError: A label file cannot be read, has values other than whole numbers up to 65535, or is not on the
            scan's grid.
    """
    files = sorted(image_files(scan.labels))
    if len(files) == 1:
        array, names = _numbers(files[0], scan, source, config)
    else:
        array, names = _merged(files, scan, source, config)
    array = _small(array)  # before resampling, which makes another array of this type
    volume = Volume(array, source).reorient("SPL")
    placed = _small(resample_to(volume, target, fill=0, order="nearest").array)
    packed = blosc("zstd", 3, "noshuffle", placed.itemsize)
    chunk, shard = (config.chunk,) * 3, (config.shard,) * 3
    metadata = array_metadata(target.shape, chunk, placed.dtype, 0, packed, shard=shard)
    stored = create_array(draft / LABELS, record_numbers(metadata, numbers_in(placed)), writing_context())
    write_box(stored, (0, 0, 0), placed)
    return names


def _small(array: Array) -> Array:
    """Label numbers in the type that a store has them in: the smaller one that holds all of them."""
    return array.astype(np.uint8 if array.max(initial=0) < 256 else np.uint16, copy=False)


def _numbers(path: Path, scan: Scan, source: Geometry, config: PrepareConfig) -> tuple[Array, dict[str, int]]:
    array = _read(path, source, config)
    named = _one_number_each(array, {**dict(scan.label_names), **config.named_labels()})
    present = sorted(numbers_in(array))
    marked = present if config.missing_labels == "unmarked" else named
    names = {name: number for number, name in sorted(named.items()) if number in marked}
    if not named and present == [1] and (structure := structure_of(path, scan)) is not None:
        names = {structure: 1}
    unnamed = {unnamed_label(number): number for number in present if number not in names.values()}
    return array, {**names, **unnamed}


def _one_number_each(array: Array, named: dict[int, str]) -> dict[int, str]:
    """Gives the numbers of one name, such as those of two kidneys, the lowest of them; changes the array."""
    lowest: dict[str, int] = {}
    for number, name in sorted(named.items()):
        if (kept := lowest.setdefault(name, number)) != number:
            array[array == number] = kept
    return {number: name for name, number in lowest.items()}


def _merged(files: Sequence[Path], scan: Scan, source: Geometry, config: PrepareConfig) -> tuple[Array, dict[str, int]]:
    """Merges one file per structure into one array; where two overlap, the later name wins."""
    array = np.zeros(source.shape, dtype=np.uint8 if len(files) < 256 else np.uint16)
    numbers, found_in = dict[str, int](), set[str]()
    for place, path in enumerate(files, start=1):
        found = _read(path, source, config) > 0
        name = structure_of(path, scan) or unnamed_label(place)
        array[found] = numbers.setdefault(name, place)
        if found.any():
            found_in.add(name)
    kept = numbers if config.missing_labels == "absent" else found_in
    return array, {name: number for name, number in numbers.items() if name in kept}


def _read(path: Path, source: Geometry, config: PrepareConfig) -> Array:
    """The labels in the order of the scan's voxels, whatever the order of the file's axes."""
    volume = read_labels(path, config.options).reorient(source.orientation)
    if not _same_grid(volume.geometry, source):
        if config.labels_on_another_grid == "resample":
            return resample_to(volume, source, fill=0, order="nearest").array
        raise ScanError(
            f"the labels are not on the scan's grid: {_grid(volume.geometry)}, not {_grid(source)}",
            where=path,
            fix="check that they belong to this scan; then resample them by their affine with --labels-on-another-grid "
            "resample, or prepare the scan alone, without --labels",
        )
    return volume.array


def _same_grid(labels: Geometry, scan: Geometry) -> bool:
    """Whether the same corner of both lies at the same place, within the tolerances."""
    if labels.shape != scan.shape:
        return False
    corners = np.array([(k, j, i) for k in (0, 1) for j in (0, 1) for i in (0, 1)], dtype=np.float64)
    corners *= np.asarray(scan.shape) - 1
    placed = labels.index_to_mm(corners)
    apart_mm = float(np.linalg.norm(placed - scan.index_to_mm(corners), axis=1).max())
    apart_voxels = float(np.abs(scan.mm_to_index(placed) - corners).max())
    return apart_mm <= GRID_TOLERANCE_MM or apart_voxels <= GRID_TOLERANCE_VOXELS


def _grid(geometry: Geometry) -> str:
    spacing = " x ".join(f"{edge:.3g}" for edge in geometry.spacing_mm)
    origin = ", ".join(f"{value:.1f}" for value in geometry.origin_mm)
    axes = ", ".join("(" + " ".join(f"{value:.3f}" for value in column) + ")" for column in geometry.direction.T)
    shape = "x".join(map(str, geometry.shape))
    return f"{shape} voxels of {spacing} mm from ({origin}) along {axes}"
