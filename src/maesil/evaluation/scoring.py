"""One rebuilt scan to its scores: every metric in every region."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.errors import ConfigError
from maesil.evaluation.protocol import Protocol, Region, View
from maesil.metrics import Lpips, psnr, region_mean, ssim_map
from maesil.metrics.ssim import SLICE_AXES, VOLUME_AXES, undisturbed

VIEW_AXES: dict[View, int] = {"axial": 0, "coronal": 1, "sagittal": 2}


class Measured(NamedTuple):
    """One number about a rebuilt scan."""

    metric: str
    region: Region
    value: float


class Volumes(NamedTuple):
    """What is compared, as tensors: the scan, its versions, and the voxels that count in each region."""

    truth: Float[Tensor, "d h w"]
    seen: dict[Region, Float[Tensor, "d h w"]]
    counted: dict[Region, Bool[Tensor, "d h w"]]
    scored: Bool[Tensor, "d h w"]


def score_volume(
    truth: Float[np.ndarray, "d h w"],
    reconstruction: Float[np.ndarray, "d h w"],
    mask: Bool[np.ndarray, "d h w"],
    scored: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    lpips: Lpips | None = None,
    device: torch.device | str = "cpu",
) -> list[Measured]:
    """Scores one rebuilt scan.

    Args:
        truth: The scan in window units [0, 1].
        reconstruction: As the network predicts it, visible voxels too.
        mask: Voxels the network did not see; True = masked.
        scored: Voxels that count: inside the scan and held out. No other voxel of `reconstruction` influences a score.
        protocol: What is scored, and how.
        lpips: The network that `protocol.lpips` names; None: LPIPS is left out, and the caller says why.
        device: Where PSNR and SSIM are computed; LPIPS runs where its weights are.

    Returns:
        A number per metric and region; nan where it is not defined: no voxel in the region, or a scan that is thinner
        than a window or a network's least image.

    Raises:
        ConfigError: The reconstruction is not finite, or LPIPS has another backbone.
    """
    _check(reconstruction, scored, protocol, lpips)
    volumes = prepare_volumes(truth, reconstruction, mask, scored, protocol, torch.device(device))
    measured = [*_psnr(volumes), *_ssim(volumes, SLICE_AXES if protocol.ssim == "2d" else VOLUME_AXES)]
    if protocol.lpips is not None and lpips is not None:
        measured.extend(_lpips(volumes, protocol, lpips))
    return measured


def prepare_volumes(
    truth: Float[np.ndarray, "d h w"],
    reconstruction: Float[np.ndarray, "d h w"],
    mask: Bool[np.ndarray, "d h w"],
    scored: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    device: torch.device,
) -> Volumes:
    """Each region's version of the scan and the voxels that count in it; the scan itself where nothing is scored."""
    true, counts, hidden = (torch.from_numpy(array).to(device) for array in (truth, scored, mask))
    predicted = torch.from_numpy(reconstruction).to(device)
    predicted = torch.where(counts, predicted.clamp(0.0, 1.0) if protocol.clip else predicted, true)
    versions: dict[Region, Tensor] = {"whole": predicted, "composite": torch.where(hidden, predicted, true)}
    versions["masked"] = versions["composite"] if protocol.paste else predicted
    regions: dict[Region, Tensor] = {"whole": counts, "composite": counts, "masked": counts & hidden}
    return Volumes(
        true,
        {region: versions[region] for region in protocol.regions},
        {region: regions[region] for region in protocol.regions},
        counts,
    )


def _psnr(volumes: Volumes) -> Iterator[Measured]:
    for region, seen in volumes.seen.items():
        yield Measured("psnr", region, psnr(seen, volumes.truth, volumes.counted[region]))


def _ssim(volumes: Volumes, axes: tuple[int, ...]) -> Iterator[Measured]:
    safe = undisturbed(volumes.scored, axes)
    maps: dict[int, Tensor] = {}  # "masked" shares its volume with another region
    for region, seen in volumes.seen.items():
        if id(seen) not in maps:
            maps[id(seen)] = ssim_map(seen, volumes.truth, axes=axes)
        yield Measured("ssim", region, region_mean(maps[id(seen)], volumes.counted[region] & safe, axes))


def _lpips(volumes: Volumes, protocol: Protocol, network: Lpips) -> Iterator[Measured]:
    views = [_lpips_view(volumes, VIEW_AXES[view], protocol, network) for view in protocol.lpips_views]
    for region in volumes.seen:
        yield Measured("lpips", region, math.fsum(view[region] for view in views) / len(views))


@torch.inference_mode()
def _lpips_view(volumes: Volumes, axis: int, protocol: Protocol, network: Lpips) -> dict[Region, float]:
    """LPIPS per region over the slices of one view.

    Where every voxel of the scan counts, the published distance of whole images; else the mean of the spatial map over
    the voxels that count.
    """
    size = tuple(edge for other, edge in enumerate(volumes.truth.shape) if other != axis)
    if min(size) < network.smallest_image:
        return dict.fromkeys(volumes.seen, math.nan)
    totals = dict.fromkeys(volumes.seen, 0.0)
    weights = dict.fromkeys(volumes.seen, 0)
    complete = {region: bool(counted.all()) for region, counted in volumes.counted.items()}
    for slices in _slices(volumes.truth.shape[axis], protocol.lpips_every, protocol.batch):
        true = network.describe(_images(volumes.truth, axis, slices, network))
        described: dict[int, list[Tensor]] = {}
        for region, seen in volumes.seen.items():
            if id(seen) not in described:
                described[id(seen)] = network.describe(_images(seen, axis, slices, network))
            counted = _cut(volumes.counted[region], axis, slices).to(network.shift.device)
            total, weight = _sum_over(network, described[id(seen)], true, counted, complete[region])
            totals[region] += total
            weights[region] += weight
    return {region: totals[region] / weights[region] if weights[region] else math.nan for region in totals}


def _sum_over(
    network: Lpips, first: list[Tensor], second: list[Tensor], counted: Bool[Tensor, "b h w"], complete: bool
) -> tuple[float, int]:
    """Distance times voxels, and voxels, over a batch of slices."""
    if complete:
        return network.distance(first, second).sum().item() * counted[0].numel(), counted.numel()
    spatial = network.spatial(first, second, (counted.shape[1], counted.shape[2]))
    return spatial[counted].sum(dtype=torch.float64).item(), int(counted.sum())


def _slices(count: int, every: int, batch: int) -> Iterator[list[int]]:
    chosen = list(range(min(every // 2, count - 1), count, every))
    for start in range(0, len(chosen), batch):
        yield chosen[start : start + batch]


def _cut(volume: Tensor, axis: int, slices: list[int]) -> Tensor:
    return volume.movedim(axis, 0)[slices]


def _images(volume: Float[Tensor, "d h w"], axis: int, slices: list[int], network: Lpips) -> Float[Tensor, "b 1 h2 w2"]:
    return _cut(volume, axis, slices)[:, None].to(network.shift.device).float() * 2.0 - 1.0


def _check(
    reconstruction: Float[np.ndarray, "d h w"],
    scored: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    lpips: Lpips | None,
) -> None:
    if not np.isfinite(reconstruction[scored]).all():
        raise ConfigError("the reconstruction holds NaN or infinite voxels", fix="check the model's checkpoint")
    if lpips is not None and lpips.net != protocol.lpips:
        raise ConfigError(f"the protocol names LPIPS {protocol.lpips}, the network is {lpips.net}")
