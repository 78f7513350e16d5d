"""Where the voxels of an array lie in the patient: shape and affine, without the voxels themselves.

One convention everywhere: the affine maps an index along the *array's own axes* to millimetres in LPS (x grows to the
patient's Left, y to Posterior, z to Superior), as in DICOM and ITK. Readers and writers convert at the edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from maesil.ct.orientation import CANONICAL, axes_to, letters_of
from maesil.errors import ConfigError, MaesilWarning, ScanError
from maesil.shapes import Shape3

MAX_SHEAR = 1e-3
"""Largest cosine between two axes that still counts as a right angle: half a millimetre over 500 mm."""

Float3 = tuple[float, float, float]
Number = float | int
"""For values that may be integers: runtime type checks do not accept an int as a `float`."""


class GeometryWarning(MaesilWarning):
    """The geometry in a file is ambiguous or missing; the message says what was assumed."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Shape and position of a volume; no operation moves the voxel centres that it keeps.

    Args:
        shape: Voxels along the array's axes 0, 1, 2.
        affine: (4, 4), homogeneous; maps an index (i0, i1, i2) to LPS millimetres of that voxel's centre.

    Raises:
        ScanError: The shape has an empty axis, or the affine is not finite, not affine, or not invertible.
    """

    shape: Shape3
    affine: Float64[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        shape = (int(self.shape[0]), int(self.shape[1]), int(self.shape[2]))
        affine = np.array(self.affine, dtype=np.float64)
        _check(shape, affine)
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_parts(
        cls,
        shape: Sequence[int],
        spacing_mm: Sequence[Number],
        origin_mm: Sequence[Number] = (0.0, 0.0, 0.0),
        direction: Any = None,
    ) -> Geometry:
        """A geometry from spacing, origin and direction, each in the order of the array's axes.

        Args:
            shape: Voxels per array axis.
            spacing_mm: Distance between neighbouring voxel centres per array axis.
            origin_mm: LPS millimetres of the centre of voxel (0, 0, 0).
            direction: (3, 3); column a is the LPS unit vector of array axis a. Default: orientation "SPL".
        """
        columns = np.eye(3)[:, ::-1] if direction is None else np.asarray(direction, dtype=np.float64)
        affine = np.eye(4)
        affine[:3, :3] = columns * np.asarray(spacing_mm, dtype=np.float64)
        affine[:3, 3] = origin_mm
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    @property
    def spacing_mm(self) -> Float3:
        """Distance between neighbouring voxel centres along each array axis."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))

    @property
    def direction(self) -> Float64[np.ndarray, "3 3"]:
        """Column a is the LPS unit vector along which array axis a increases."""
        columns: np.ndarray = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        return columns

    @property
    def origin_mm(self) -> Float3:
        """LPS millimetres of the centre of voxel (0, 0, 0)."""
        return (float(self.affine[0, 3]), float(self.affine[1, 3]), float(self.affine[2, 3]))

    @property
    def extent_mm(self) -> Float3:
        """Edge lengths of the box that the voxels fill, from outer face to outer face."""
        s, n = self.spacing_mm, self.shape
        return (s[0] * n[0], s[1] * n[1], s[2] * n[2])

    @property
    def orientation(self) -> str:
        """Three letters; letter a is the direction in which array axis a increases, such as "SPL".

        An oblique scan has the letters of the nearest patient axes, each used once.
        """
        return letters_of(self.direction)

    @property
    def shear(self) -> float:
        """Largest cosine between two of the axes: 0 for a box, more for a gantry tilt."""
        cosines = self.direction.T @ self.direction
        return float(np.abs(cosines - np.diag(np.diag(cosines))).max())

    def index_to_mm(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """LPS millimetres of (fractional) indices."""
        mm: np.ndarray = points @ self.affine[:3, :3].T + self.affine[:3, 3]
        return mm

    def mm_to_index(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Fractional indices of LPS millimetres: the inverse of `index_to_mm`."""
        index: np.ndarray = np.linalg.solve(self.affine[:3, :3], (points - self.affine[:3, 3]).T).T
        return index

    def crop(self, start: Shape3, shape: Shape3) -> Geometry:
        """The geometry of a box of `shape` voxels that starts at voxel `start`.

        Raises:
            ConfigError: The box is empty or extends outside the volume.
        """
        ends = [a + n for a, n in zip(start, shape, strict=True)]
        if min(start) < 0 or min(shape) < 1 or any(e > n for e, n in zip(ends, self.shape, strict=True)):
            raise ConfigError(
                f"a box of {shape} voxels at {start} does not lie in a volume of {self.shape}",
                fix="crop within the volume, or pad it first",
            )
        return self._moved(shape, start)

    def pad(self, before: Shape3, after: Shape3) -> Geometry:
        """The geometry with `before` and `after` voxels added at the near and far end of each axis.

        Raises:
            ConfigError: A number of voxels is negative.
        """
        if min(*before, *after) < 0:
            raise ConfigError(f"padding must not be negative: {before}, {after}", fix="use crop to shrink")
        shape = [b + n + a for b, n, a in zip(before, self.shape, after, strict=True)]
        return self._moved((shape[0], shape[1], shape[2]), (-before[0], -before[1], -before[2]))

    def reorient(self, orientation: str = CANONICAL) -> Geometry:
        """The geometry with its axes swapped and flipped to the nearest `orientation`; never resampled.

        Raises:
            ConfigError: `orientation` is not one of the 48 triples such as "SPL".
        """
        permutation, flips = self.axes_to(orientation)
        to_old = np.zeros((4, 4))
        to_old[3, 3] = 1.0
        for new, (old, flip) in enumerate(zip(permutation, flips, strict=True)):
            to_old[old, new] = -1.0 if flip else 1.0
            to_old[old, 3] = self.shape[old] - 1 if flip else 0.0
        shape = (self.shape[permutation[0]], self.shape[permutation[1]], self.shape[permutation[2]])
        return Geometry(shape, self.affine @ to_old)

    def axes_to(self, orientation: str) -> tuple[Shape3, tuple[bool, bool, bool]]:
        """How to reach an orientation: new axis j is old axis `permutation[j]`, reversed where `flips[j]`."""
        return axes_to(self.direction, orientation)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able description; `from_dict` gives back an equal geometry."""
        return {"shape": list(self.shape), "affine": self.affine.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Geometry:
        """The geometry that `to_dict` described.

        Raises:
            ScanError: `data` does not describe a valid geometry.
        """
        try:
            shape = (int(data["shape"][0]), int(data["shape"][1]), int(data["shape"][2]))
            affine = np.array(data["affine"], dtype=np.float64)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ScanError(f"not a geometry: {error!r}", where=str(data)[:200]) from error
        return cls(shape, affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.shape == other.shape and bool(np.array_equal(self.affine, other.affine))

    def __hash__(self) -> int:
        return hash((self.shape, (self.affine + 0.0).tobytes()))

    def __repr__(self) -> str:
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing_mm)
        shape = "x".join(str(n) for n in self.shape)
        return f"Geometry({shape}, {spacing} mm, {self.orientation})"

    def _moved(self, shape: Shape3, start: Shape3) -> Geometry:
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.asarray(start, dtype=np.float64)
        return Geometry(shape, affine)


def _check(shape: Shape3, affine: np.ndarray) -> None:
    if min(shape) < 1:
        raise ScanError(f"a volume of {shape} voxels is empty")
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ScanError("the affine is not a 4x4 matrix of finite numbers", where=affine.tolist())
    if not np.array_equal(affine[3], (0.0, 0.0, 0.0, 1.0)):
        raise ScanError("the affine's last row is not 0 0 0 1", where=affine.tolist())
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant of the unit columns is the volume of the unit cell, independent of spacing.
    if min(lengths) < 1e-9 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise ScanError(
            "the affine cannot be inverted: two axes coincide or a voxel has no size",
            where=affine[:3, :3].tolist(),
            fix="convert the scan again from its source, or correct spacing and directions in its header",
        )
