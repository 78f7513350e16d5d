"""Scoring one reconstructed scan: every metric in every region."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from maesil.errors import ConfigError
from maesil.evaluation.measures import METRICS
from maesil.evaluation.protocol import Protocol, RegionName
from maesil.evaluation.volumes import prepare_volumes
from maesil.metrics import Lpips
from maesil.shapes import Shape3


class Measured(NamedTuple):
    """One score of a reconstructed scan."""

    metric: str
    region: RegionName
    value: float


def score_volume(
    truth: Float[np.ndarray, "d h w"],
    reconstruction: Float[np.ndarray, "d h w"],
    mask: Bool[np.ndarray, "d h w"],
    scored: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    lpips: Lpips | None = None,
    *,
    patch: Shape3 = (8, 8, 8),
    predicts_visible: bool = True,
    device: torch.device | str = "cpu",
    superpatch: Shape3 | None = None,
) -> list[Measured]:
    """Scores one reconstructed scan under one draw of masks.

    Args:
        truth: The scan in window units [0, 1].
        reconstruction: The network's prediction, visible voxels included.
        mask: Voxels the network did not see; True = masked.
        scored: Voxels that count: inside the scan and held out. No other voxel of `reconstruction` affects a score.
        protocol: What is scored, and how.
        lpips: The network that `protocol.lpips` names; None: LPIPS is left out, and the caller reports why.
        patch: Patch size of the masks, in voxels.
        predicts_visible: Whether the visible voxels of `reconstruction` are the network's own prediction.
        device: Device for the metrics; LPIPS runs on the device of its weights.
        superpatch: Size of the superpatches that were reconstructed separately; None: the volume is a single one.

    Returns:
        A score per metric and region; nan if it is undefined: the region is empty, or the scan is thinner than SSIM's
        window or the network's smallest image.

    Raises:
        ConfigError: The reconstruction is not finite, or LPIPS has another backbone.
    """
    _check(reconstruction, scored, protocol, lpips)
    volumes = prepare_volumes(
        truth, reconstruction, mask, scored, protocol,
        patch=patch, predicts_visible=predicts_visible, device=torch.device(device),
        superpatch=superpatch,
    )  # fmt: skip
    network = lpips if protocol.lpips is not None else None
    return [
        Measured(name, region, value)
        for name, metric in METRICS.items()
        for region, value in metric.measure(volumes, protocol, network)
    ]


def _check(
    reconstruction: Float[np.ndarray, "d h w"],
    scored: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    lpips: Lpips | None,
) -> None:
    if not np.isfinite(reconstruction[scored]).all():
        raise ConfigError("the reconstruction has NaN or infinite voxels", fix="check the model's checkpoint")
    if lpips is not None and lpips.net != protocol.lpips:
        raise ConfigError(f"the protocol asks for LPIPS {protocol.lpips}, but the network is {lpips.net}")
