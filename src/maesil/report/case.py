"""A scan with its reconstruction, and the three standard radiological views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from maesil.ct.window import Window
from maesil.evaluation.protocol import View

VIEWS: tuple[View, ...] = ("axial", "coronal", "sagittal")
EDGES: dict[View, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
"""Letters at the left, right, top and bottom of each view: radiological convention, the patient's right on the left."""


@dataclass(frozen=True)
class Case:
    """One reconstructed scan; all arrays are (d, h, w) in orientation SPL.

    Attributes:
        scan_id: The scan's id.
        dataset: The scan's dataset.
        truth_hu: The scan in HU.
        reconstruction_hu: The reconstruction in HU.
        mask: Masked voxels, True = masked.
        held_out: Voxels that were scored.
        spacing_mm: Voxel spacing along (S, P, L).
        window: HU window of the network.
        caption: Caption below the scan's name.
    """

    scan_id: str
    dataset: str
    truth_hu: Float[np.ndarray, "d h w"]
    reconstruction_hu: Float[np.ndarray, "d h w"]
    mask: Bool[np.ndarray, "d h w"]
    held_out: Bool[np.ndarray, "d h w"]
    spacing_mm: tuple[float, float, float]
    window: Window
    caption: str = ""

    def best_slices(self) -> dict[View, int]:
        """The slice of each view with the most held-out tissue."""
        interest = self.held_out & (self.truth_hu > -500)
        chosen = {}
        for axis, view in enumerate(VIEWS):
            others = tuple(other for other in range(3) if other != axis)
            chosen[view] = int(interest.sum(axis=others).argmax())
        return chosen


def cut(volume: npt.NDArray[Any], view: View, index: int) -> npt.NDArray[Any]:
    """One slice as it is shown: rows downwards, columns rightwards.

    Args:
        volume: Volume (d, h, w) in orientation SPL.
        view: "axial" (P down, L right), "coronal" (I down, L right) or "sagittal" (I down, P right).
        index: Slice index along S, P or L.
    """
    places: dict[View, Any] = {
        "axial": index,
        "coronal": (slice(None, None, -1), index),
        "sagittal": (slice(None, None, -1), slice(None), index),
    }
    shown: npt.NDArray[Any] = volume[places[view]]
    return shown


def pixel_mm(view: View, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Height and width of a view's pixels in mm."""
    s, p, left = spacing_mm
    return {"axial": (p, left), "coronal": (s, left), "sagittal": (s, p)}[view]
