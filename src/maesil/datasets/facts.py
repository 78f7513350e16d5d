"""What the headers of scans say, and whether their files are complete, without reading the voxels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from maesil.ct.readers import reader_of
from maesil.ct.readers.base import Facts
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.readers.soundness import located, require_body_sized
from maesil.datasets.scan import Scan
from maesil.errors import ScanError
from maesil.tiling import Tiling

PREPARED_MM = 1.5
"""Default voxel size of `prepare`."""

THREADS = 8
"""Number of threads that read files."""


def superpatches_of(facts: Facts) -> int:
    """Number of superpatches with the defaults of `prepare` and `pretrain`; some may be all air."""
    slice_mm = facts.slice_mm if math.isfinite(facts.slice_mm) else facts.in_plane_mm
    edges = zip(facts.shape, (facts.in_plane_mm, facts.in_plane_mm, slice_mm), strict=True)
    first, second, along = (max(1, round(voxels * size / PREPARED_MM)) for voxels, size in edges)
    return len(Tiling((along, first, second)))


def facts_of(scan: Scan, options: ReadOptions = STRICT) -> Facts:
    """The facts of a scan.

    Raises:
        ScanError: A header cannot be read or is not that of a sound 3D scan, or a file is shorter than its header says.
    """
    with warnings.catch_warnings(), located(scan.path, (Exception,)):  # libraries may raise anything for damaged files
        warnings.simplefilter("ignore")
        facts = reader_of(scan.path).facts(scan.files, options)
        require_body_sized(facts.shape, (facts.in_plane_mm, facts.in_plane_mm, facts.slice_mm))
        return facts


def facts_of_all(
    scans: Sequence[Scan],
    progress: Callable[[int, int, str], None] | None = None,
    options: ReadOptions = STRICT,
) -> list[Facts | ScanError]:
    """The facts of each scan, or the error that prevented them, in the order of the scans."""
    found: list[Facts | ScanError] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for scan, facts in zip(scans, pool.map(partial(_tried, options=options), scans), strict=True):
            found.append(facts)
            if progress is not None:
                progress(len(found), len(scans), scan.brief)
    return found


def _tried(scan: Scan, options: ReadOptions) -> Facts | ScanError:
    try:
        return facts_of(scan, options)
    except ScanError as error:
        return error
