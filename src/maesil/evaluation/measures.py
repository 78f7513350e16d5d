"""The catalogue of metrics: a metric's name, which values are better, and how it scores a reconstructed scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maesil.catalog import Catalog
from maesil.evaluation.protocol import VIEW_AXES, Protocol, RegionName
from maesil.evaluation.volumes import Volumes
from maesil.metrics import Lpips, psnr, region_mean, ssim_map
from maesil.metrics.fixed_pattern import face_ratio, stencil_share
from maesil.metrics.ssim import SLICE_AXES, VOLUME_AXES, undisturbed

Measured = Iterator[tuple[RegionName, float]]


@dataclass(frozen=True)
class Metric:
    """A metric of a reconstructed scan.

    Attributes:
        heading: Column title, with the unit.
        better: Which values are better.
        decimals: Number of decimals in tables.
        measure: Yields a value per region that the metric applies to; nan if it is undefined on these voxels. Takes
            the LPIPS network, or None if LPIPS is left out.
        mean: Averages a scan's values over mask draws.
        explained: A sentence for the notes of a table; empty if the protocol's line explains the metric.
    """

    heading: str
    better: Literal["higher", "lower", "near one"]
    decimals: int
    measure: Callable[[Volumes, Protocol, Lpips | None], Measured]
    mean: Callable[[Sequence[float]], float]
    explained: str = ""

    @property
    def title(self) -> str:
        """The column title with an arrow that shows which values are better."""
        arrow = {"higher": "↑", "lower": "↓", "near one": "→ 1"}[self.better]
        return f"{self.heading} {arrow}"

    def goodness(self, value: float) -> float:
        """A number that is larger for better values."""
        return {"higher": value, "lower": -value, "near one": -abs(value - 1.0)}[self.better]


def plain_mean(values: Sequence[float]) -> float:
    """The mean of the defined values; nan if there are none."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def mean_psnr(values: Sequence[float]) -> float:
    """The PSNR of the mean squared error, in dB, at a data range of 1; inf if every error is zero."""
    error = plain_mean([10.0 ** (-value / 10.0) for value in values])
    return math.inf if error == 0.0 else -10.0 * math.log10(error) if not math.isnan(error) else math.nan


def _psnr(volumes: Volumes, protocol: Protocol, lpips: Lpips | None) -> Measured:
    for region, seen in volumes.seen.items():
        yield region, psnr(seen, volumes.truth, volumes.counted[region])


def _ssim(volumes: Volumes, protocol: Protocol, lpips: Lpips | None) -> Measured:
    axes = SLICE_AXES if protocol.ssim == "2d" else VOLUME_AXES
    safe = undisturbed(volumes.scored, axes)
    maps: dict[int, Tensor] = {}  # "masked" may share its volume with another region
    for region, seen in volumes.seen.items():
        if id(seen) not in maps:
            maps[id(seen)] = ssim_map(seen, volumes.truth, axes=axes)
        yield region, region_mean(maps[id(seen)], volumes.counted[region] & safe, axes)


def _lpips(volumes: Volumes, protocol: Protocol, lpips: Lpips | None) -> Measured:
    if lpips is None:
        return
    views = [_lpips_view(volumes, VIEW_AXES[view], protocol, lpips) for view in protocol.lpips_views]
    for region in volumes.seen:
        yield region, math.fsum(view[region] for view in views) / len(views)


@torch.inference_mode()
def _lpips_view(volumes: Volumes, axis: int, protocol: Protocol, network: Lpips) -> dict[RegionName, float]:
    """LPIPS per region over the slices of one view.

    If every voxel of the scan counts, this is the published distance of whole images; otherwise it is the mean of the
    spatial map over the voxels that count.
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
    """Distance times number of voxels, and number of voxels, over a batch of slices."""
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


def _faces(axis: int) -> Callable[[Volumes, Protocol, Lpips | None], Measured]:
    """The measure of seams at patch faces along one axis."""

    def measure(volumes: Volumes, protocol: Protocol, lpips: Lpips | None) -> Measured:
        if "masked" in volumes.seen:
            seen, period = volumes.seen["masked"], volumes.patch[axis]
            without = volumes.superpatch[axis] if volumes.superpatch else None
            yield "masked", face_ratio(seen, volumes.truth, volumes.masked, volumes.scored, period, axis, without)

    return measure


def _stencil(volumes: Volumes, protocol: Protocol, lpips: Lpips | None) -> Measured:
    if "masked" in volumes.seen:
        seen = volumes.seen["masked"]
        yield "masked", 100.0 * stencil_share(seen, volumes.truth, volumes.masked, volumes.scored, volumes.patch)


_SEAMS = (
    "Seams: mean absolute difference between neighbouring masked voxels across patch faces, over that inside patches, "
    "as a ratio to the scan's own, along S, P and L; 1 = none. Faces between superpatches are left out."
)
METRICS: Catalog[Metric] = Catalog(
    "metric",
    {
        "psnr": Metric("PSNR (dB)", "higher", 2, _psnr, mean_psnr),
        "ssim": Metric("SSIM", "higher", 4, _ssim, plain_mean),
        "lpips": Metric("LPIPS", "lower", 4, _lpips, plain_mean),
        "seams_s": Metric("seams S", "near one", 2, _faces(0), plain_mean, _SEAMS),
        "seams_p": Metric("seams P", "near one", 2, _faces(1), plain_mean, _SEAMS),
        "seams_l": Metric("seams L", "near one", 2, _faces(2), plain_mean, _SEAMS),
        "stencil": Metric(
            "stencil (%)",
            "lower",
            1,
            _stencil,
            plain_mean,
            "Stencil: share of the masked error's energy that is the same pattern in every patch.",
        ),
    },
)
"""Name to metric: all metrics that are scored, stored and shown, in the order of the tables."""
