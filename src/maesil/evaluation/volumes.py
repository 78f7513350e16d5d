"""The volumes to compare: the scan, its reconstructed versions, and the voxels that count in each region."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.evaluation.protocol import Protocol, RegionName
from maesil.shapes import Shape3


class Volumes(NamedTuple):
    """One reconstructed scan, ready for scoring.

    Attributes:
        truth: The scan (d, h, w) in units of the scored window, [0, 1].
        seen: Region to the reconstructed version that is compared with the scan there.
        counted: Region to the voxels that count.
        scored: Voxels that count in any region: inside the scan and held out.
        masked: Voxels that the model did not see.
        patch: Patch size of the masks, in voxels.
        superpatch: Size of the superpatches that were reconstructed separately; None: the volume is a single one.
    """

    truth: Float[Tensor, "d h w"]
    seen: dict[RegionName, Float[Tensor, "d h w"]]
    counted: dict[RegionName, Bool[Tensor, "d h w"]]
    scored: Bool[Tensor, "d h w"]
    masked: Bool[Tensor, "d h w"]
    patch: Shape3
    superpatch: Shape3 | None = None


def prepare_volumes(
    truth: Float[np.ndarray, "d h w"],
    reconstruction: Float[np.ndarray, "d h w"],
    mask: Bool[np.ndarray, "d h w"],
    scored: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    *,
    patch: Shape3,
    predicts_visible: bool,
    device: torch.device,
    superpatch: Shape3 | None = None,
) -> Volumes:
    """Returns each region's version of the scan, and the voxels that count in it.

    Outside the scored voxels, every version is the scan itself.

    Args:
        truth: The scan in window units [0, 1].
        reconstruction: The network's prediction.
        mask: Voxels the network did not see; True = masked.
        scored: Voxels that count: inside the scan and held out.
        protocol: What is scored, and how.
        patch: Patch size of the masks, in voxels.
        predicts_visible: Whether the visible voxels of `reconstruction` are the network's own prediction; if they are
            the scan's, the region "predicted" is left out.
        device: Device for the metrics.
        superpatch: Size of the superpatches that were reconstructed separately; None: the volume is a single one.
    """
    true, counts, hidden = (torch.from_numpy(array).to(device) for array in (truth, scored, mask))
    predicted = torch.from_numpy(reconstruction).to(device)
    predicted = torch.where(counts, predicted.clamp(0.0, 1.0) if protocol.clip else predicted, true)
    if protocol.scored_window is not None:
        true, predicted = (
            protocol.scored_window.normalize(protocol.window.denormalize(one)) for one in (true, predicted)
        )
    whole = torch.where(hidden, predicted, true)
    versions: dict[RegionName, Tensor] = {
        "whole": whole,
        "masked": whole if protocol.paste else predicted,
        "predicted": predicted,
    }
    regions: dict[RegionName, Tensor] = {"whole": counts, "masked": counts & hidden, "predicted": counts}
    wanted = [region for region in protocol.regions if predicts_visible or region != "predicted"]
    return Volumes(
        true,
        {region: versions[region] for region in wanted},
        {region: regions[region] for region in wanted},
        counts,
        hidden,
        patch,
        superpatch,
    )
