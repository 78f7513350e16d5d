"""Overlap and surface distance of segmentations, per class, computed with MONAI."""

from __future__ import annotations

import warnings

from jaxtyping import Int
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_dice import compute_surface_dice
from torch import Tensor

SURFACE_TOLERANCE_MM = 2.0
"""Distance up to which surfaces count as the same, for the normalised surface Dice."""

Spacing = tuple[float, float, float]


def segmentation_scores(
    predicted: Int[Tensor, "d h w"], truth: Int[Tensor, "d h w"], classes: int, spacing_mm: Spacing
) -> list[dict[str, float]]:
    """Dice, HD95 in mm and normalised surface Dice (NSD) of every class of one scan.

    NSD is a share of area: each piece of surface counts by its size in mm^2, which differs from a share of voxels if
    these are not cubes. HD95 is a percentile over surface voxels.

    A structure that is in neither is not scored (NaN): there was nothing to find. For a structure that is in only one,
    Dice and NSD are 0 and HD95 is infinite.

    Args:
        predicted: Predicted class of each voxel; 0 is background.
        truth: True class of each voxel.
        classes: Number of classes, without the background.
        spacing_mm: Size of a voxel along (S, P, L).
    """
    return [_scores(predicted == number, truth == number, spacing_mm) for number in range(1, classes + 1)]


def _scores(predicted: Tensor, truth: Tensor, spacing_mm: Spacing) -> dict[str, float]:
    if not predicted.any() and not truth.any():
        return dict.fromkeys(("dice", "hd95_mm", "nsd"), float("nan"))
    if not predicted.any() or not truth.any():
        return {"dice": 0.0, "hd95_mm": float("inf"), "nsd": 0.0}
    predicted, truth = _around(predicted, truth)
    pair = (predicted[None, None].float(), truth[None, None].float())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hausdorff = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing_mm)
        surface = compute_surface_dice(
            *pair, [SURFACE_TOLERANCE_MM], include_background=True, spacing=spacing_mm, use_subvoxels=True
        )
    dice = compute_dice(*pair, include_background=True)
    return {"dice": float(dice[0, 0]), "hd95_mm": float(hausdorff[0, 0]), "nsd": float(surface[0, 0])}


def _around(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both cropped to where either is, with a margin of one voxel: distances stay the same, and cost less."""
    found = (predicted | truth).nonzero()
    low, high = (found.amin(dim=0) - 1).clamp_min(0), found.amax(dim=0) + 2
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return predicted[box], truth[box]
