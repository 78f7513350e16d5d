"""Files of other programs' making, damaged files, and files that only look like a CT: each with what is right.

A module of this package has a tuple INPUTS. An input writes one source into an empty folder, and states what has to
become of it: a volume, or a refusal in certain words. `test_foreign.py` gives all of them to the readers, to `prepare`,
to `datasets`, and to nibabel and SimpleITK, as far as they read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maesil.ct.geometry import Geometry
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.volume import Volume

SHAPE = (8, 20, 16)
"""Voxels along Superior, Posterior and Left of the small scan that most inputs hold."""
SPACING_MM = (2.5, 1.1, 0.9)
ORIGIN_MM = (-7.0, 11.0, 30.0)
"""Its first voxel: Left, Posterior, Superior."""


def small_hu() -> np.ndarray:
    """The voxels of the small scan: slopes in all directions with noise, int16 HU."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    noise = np.random.default_rng(0).integers(-20, 20, SHAPE)
    return np.asarray(8 * ((100 * z + 20 * y - 30 * x - 400 + noise) // 8), dtype=np.int16)


HU = small_hu()
SCAN = Volume(HU, Geometry.from_parts(SHAPE, SPACING_MM, ORIGIN_MM))
"""The small scan, in orientation SPL."""


@dataclass(frozen=True)
class Foreign:
    """One input, and what is right.

    Attributes:
        name: Name of the input, and of its folder: letters, digits, dots and underscores.
        write: Function that writes it into an empty folder.
        right: The scan in orientation SPL, as a reader gives it; None if the reader has to refuse it.
        refused: Regular expression of the reason, if the reader or `prepare` has to refuse it.
        warned: Regular expression of a warning that has to be given; "" for none.
        options: Options that it is read with.
        alone: Why other readers read something else; "" if each of them gives the same or refuses.
        place_mm: Largest distance between a voxel's right place and ours.
    """

    name: str
    write: Callable[[Path], None]
    right: Volume | None = SCAN
    refused: str = ""
    warned: str = ""
    options: ReadOptions = STRICT
    alone: str = ""
    place_mm: float = 1e-3


def refused(name: str, write: Callable[[Path], None], reason: str, options: ReadOptions = STRICT) -> Foreign:
    """An input that has to be refused, for a reason that matches a regular expression."""
    return Foreign(name, write, right=None, refused=reason, options=options)
