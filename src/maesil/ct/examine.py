"""The command `check`: what a scan is, and what about it is probably wrong."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maesil.ct.doubts import Doubt, doubts_about
from maesil.ct.geometry import GeometryWarning
from maesil.ct.readers import read
from maesil.ct.readers.in_memory import volume_of
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.volume import TISSUE_HU
from maesil.files import AnyPath, as_paths
from maesil.shapes import Shape3


@dataclass(frozen=True)
class ScanFacts:
    """What `check` found.

    Attributes:
        shape: Voxels along the array's own axes.
        spacing_mm: Distance between voxel centres along these axes.
        orientation: Letters of the directions of these axes, such as "SPL".
        low: Lowest value.
        high: Highest value.
        quantiles: Values below which 1, 25, 50, 75 and 99 % of the voxels lie.
        tissue_share: Share of voxels above -500.
        doubts: What is probably wrong; empty for a sound CT.
        assumptions: What the reader had to assume about the geometry.
    """

    shape: Shape3
    spacing_mm: tuple[float, float, float]
    orientation: str
    low: float
    high: float
    quantiles: tuple[float, ...]
    tissue_share: float
    doubts: tuple[Doubt, ...]
    assumptions: tuple[str, ...] = ()

    def lines(self) -> Sequence[str]:
        """The facts as lines of text."""
        steps = " x ".join(f"{step:.4g}" for step in self.spacing_mm)
        spread = ", ".join(f"{value:.4g}" for value in self.quantiles)
        return (
            f"voxels       {' x '.join(map(str, self.shape))} of {steps} mm, axes {self.orientation}",
            f"values       {self.low:.4g} to {self.high:.4g}; 1, 25, 50, 75, 99 % below: {spread}",
            f"tissue       {self.tissue_share:.1%} of the voxels are above {TISSUE_HU} HU",
            *(f"assumed      {text}" for text in self.assumptions),
            *(f"doubt        {doubt.what}\n  fix:       {doubt.fix}" for doubt in self.doubts),
            *(() if self.doubts else ("sound        nothing speaks against CT in Hounsfield units",)),
        )


def examine_scan(
    scan: Any,
    *,
    affine: Any = None,
    series: str | None = None,
    files: Sequence[AnyPath] = (),
    options: ReadOptions = STRICT,
) -> ScanFacts:
    """Reads one scan and says whether it looks like CT in Hounsfield units, with its axes in the right order.

    Args:
        scan: A path, a SimpleITK or nibabel image, or an array or tensor with `affine`, as in `volume_of`.
        affine: (4, 4); maps an index of the array's own axes to mm in RAS.
        series: The DICOM series to read, if the folder contains several.
        files: Files of the scan, if they are known, as `find_scans` lists them; the path is then not searched.
        options: How to read files that are refused otherwise.

    Raises:
        ScanError: The scan cannot be read, or is not sound.
        ConfigError: The object is not a scan, or an array has no affine.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GeometryWarning)
        volume = (
            read(scan, series=series, files=as_paths(files), options=options)
            if files
            else volume_of(scan, affine=affine, series=series, options=options)
        )
    array = volume.array
    return ScanFacts(
        shape=volume.shape,
        spacing_mm=volume.spacing_mm,
        orientation=volume.geometry.orientation,
        low=float(array.min()),
        high=float(array.max()),
        quantiles=tuple(np.percentile(array, (1, 25, 50, 75, 99)).tolist()),
        tissue_share=float((array > TISSUE_HU).mean()),
        doubts=doubts_about(volume),
        assumptions=tuple(str(one.message) for one in caught if issubclass(one.category, GeometryWarning)),
    )
