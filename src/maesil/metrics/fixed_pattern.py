"""The fixed pattern that patch-wise decoders leave behind (§IV-C): seams at patch faces, one stencil in every patch."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.metrics.means import mean_over
from maesil.shapes import Shape3


def face_ratio(
    reconstruction: Float[Tensor, "d h w"],
    truth: Float[Tensor, "d h w"],
    mask: Bool[Tensor, "d h w"],
    scored: Bool[Tensor, "d h w"],
    period: int,
    axis: int,
    without: int | None = None,
) -> float:
    """Ratio of steps across patch faces to steps inside patches, as a multiple of the same ratio in the scan.

    A step is the absolute difference of two neighbouring voxels along `axis`. Only pairs of voxels that are both masked
    and both scored count.

    Args:
        reconstruction: Reconstructed voxels.
        truth: Voxels of the scan.
        mask: Mask of the voxels, True = masked.
        scored: Voxels that count.
        period: Number of voxels from one face to the next, from the first voxel of the volume on: a patch's edge for
            seams between patches, a superpatch's for seams between superpatches.
        axis: Axis of the steps: 0 = S, 1 = P, 2 = L.
        without: Period of faces to leave out because they are of another kind: those between superpatches, which are
            reconstructed separately, when patches are measured. None: leave out none.

    Returns:
        1 if faces do not show, more if they do; nan without pairs of both kinds, or if all steps inside are zero.
    """
    counted = (mask & scored).movedim(axis, 0)
    pairs = counted[1:] & counted[:-1]
    place = torch.arange(1, len(counted), device=mask.device)
    at_face = place % period == 0
    if without is not None:
        pairs = pairs & (place % without != 0)[:, None, None]
    ratios = []
    for volume in (reconstruction, truth):
        steps = volume.movedim(axis, 0).diff(dim=0).abs()
        across, inside = (mean_over(steps[planes], pairs[planes]) for planes in (at_face, ~at_face))
        ratios.append(across / inside if inside else math.nan)
    return ratios[0] / ratios[1] if ratios[1] else math.nan


def stencil_share(
    reconstruction: Float[Tensor, "d h w"],
    truth: Float[Tensor, "d h w"],
    mask: Bool[Tensor, "d h w"],
    scored: Bool[Tensor, "d h w"],
    patch: Shape3,
) -> float:
    """Share of the error's energy that is the same pattern in every patch.

    The pattern is the mean error at each place within a patch, over all patches that are fully masked and scored. Its
    own mean is subtracted, because an offset is not a pattern. By chance alone, the pattern of N patches has 1/N of the
    energy, which is subtracted too.

    Args:
        reconstruction: Reconstructed voxels.
        truth: Voxels of the scan.
        mask: Mask of the voxels, True = masked.
        scored: Voxels that count.
        patch: Shape of a patch in voxels; patches start at the first voxel of the volume.

    Returns:
        A share in [0, 1]; nan with fewer than two whole patches, or without any error.
    """
    whole = _patches(mask & scored, patch).all(dim=1)
    if int(whole.sum()) < 2:
        return math.nan
    errors = _patches(reconstruction - truth, patch)[whole].double()
    energy = errors.square().mean().item()
    if energy == 0.0:
        return math.nan
    stencil = errors.mean(dim=0)
    by_chance = errors.var(dim=0, correction=1).mean().item() / len(errors)
    pattern = (stencil - stencil.mean()).square().mean().item()
    return max(0.0, pattern - by_chance) / energy


def _patches(volume: Tensor, patch: Shape3) -> Tensor:
    """The whole patches of a volume as (patches, voxels); the remainder at its far ends is dropped."""
    counts = [size // edge for size, edge in zip(volume.shape, patch, strict=True)]
    cut = volume[tuple(slice(count * edge) for count, edge in zip(counts, patch, strict=True))]
    split = cut.reshape(counts[0], patch[0], counts[1], patch[1], counts[2], patch[2])
    return split.permute(0, 2, 4, 1, 3, 5).reshape(counts[0] * counts[1] * counts[2], -1)
