"""The evaluation protocol: what is scored, and how; frozen, and named in every score and below every table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, field, replace
from typing import Literal

from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.catalog import Catalog
from maesil.ct.window import Window
from maesil.errors import ConfigError
from maesil.masking import MASKINGS, Masking

RegionName = Literal["whole", "masked", "predicted"]
View = Literal["axial", "coronal", "sagittal"]
VIEW_AXES: dict[View, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
REGIONS: tuple[RegionName, ...] = ("masked", "whole", "predicted")
REGION_TEXT: dict[str, str] = {
    "masked": "masked = masked voxels only",
    "whole": "whole = every voxel of what a user gets: masked ones rebuilt, visible ones as they are in the scan",
    "predicted": "predicted = every voxel as the network predicts it, visible ones too; no row for methods that do not",
}
NOT_SCIENCE = ("batch",)
"""Fields that do not affect any score."""
LATER: dict[str, object] = {"whole_scan": False}
"""Fields that were added later, and the values that protocols without them had: these leave the id as it was."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Protocol:
    """How reconstructions are scored. The paper leaves most of this open; see docs/reproducing.md.

    Args:
        regions: The voxels that count. "masked" is what was learnt; "whole" is what a user gets, with visible voxels
            copied from the scan; "predicted" is the network's own prediction of every voxel.
        masking: "drawn" hides tokens; "off" shows the network everything, so that only the region "predicted" is
            meaningful.
        masks: Name of the strategy whose masks are drawn, at its default ratios; None: the run's own masking.
        window: HU window mapped to [0, 1] for the network; PSNR and SSIM use a data range of 1. It is the run's; any
            other is refused.
        scored_window: HU window that errors are measured in, mapped to [0, 1] and clipped; None: `window`.
        clip: Clip predictions to the window, like the scan.
        aggregation: Each scan is scored as one volume, then tables take means over scans.
        ssim: Gaussian windows (sigma 1.5) over volumes ("3d") or axial slices ("2d").
        lpips: Backbone of LPIPS v0.1; None: no LPIPS.
        lpips_views: Planes that slices are cut in; their means are averaged.
        lpips_every: Step between the slices that LPIPS sees, starting half a step in.
        paste: In "masked", take visible voxels within SSIM's windows and LPIPS's slices from the scan, not the network.
        mask_seed: Seed of the masks; each mask depends on it, the scan, the draw and the tile.
        mask_draws: Masks drawn for each superpatch. A scan's errors are averaged over them: PSNR is computed from the
            mean squared error, other metrics are means; the spread over draws is stored with each score.
        whole_scan: Draw one mask for each scan, in place of one for each superpatch; superpatches overlap by half and
            are blended, so that the step between them is far smaller.
        batch: Superpatches, or slices, per batch.
    """

    regions: tuple[RegionName, ...] = REGIONS
    masking: Literal["drawn", "off"] = "drawn"
    masks: str | None = None
    window: Window = field(default_factory=Window)
    scored_window: Window | None = None
    clip: bool = True
    aggregation: Literal["scan"] = "scan"
    ssim: Literal["3d", "2d"] = "3d"
    lpips: Literal["alex", "squeeze"] | None = "alex"
    lpips_views: tuple[View, ...] = ("axial",)
    lpips_every: PositiveInt = 1
    paste: bool = True
    mask_seed: int = 0
    mask_draws: PositiveInt = 8
    whole_scan: bool = False
    batch: PositiveInt = 8

    def __post_init__(self) -> None:
        for name, values in (("regions", self.regions), ("lpips_views", self.lpips_views)):
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{name} must contain at least one value and no duplicates, not {list(values)}")
        if self.masks is not None:
            MASKINGS[self.masks]  # raises for an unknown name and suggests the nearest one
        if self.masking == "off" and (self.regions != ("predicted",) or self.mask_draws != 1):
            raise ConfigError(
                "with masking off, no masks are drawn and every voxel is visible",
                fix="--protocol.regions predicted --protocol.mask-draws 1",
            )

    @property
    def id(self) -> str:
        """Eight characters that differ whenever these settings let scores differ.

        Scores with different ids never share a table. The sizes of superpatches and patches are the models': see
        `Score.grid`.
        """
        later = {key for key, value in LATER.items() if getattr(self, key) == value}
        settings = {key: value for key, value in asdict(self).items() if key not in {*NOT_SCIENCE, *later}}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    def describe(self) -> str:
        """The protocol in one line of plain text, ending in its id."""
        parts = [
            f"HU window {_bounds(self.window)} mapped to [0, 1], data range 1",
            *([f"errors measured in the window {_bounds(self.scored_window)}"] if self.scored_window else []),
            "predictions clipped to it" if self.clip else "predictions not clipped",
            *(REGION_TEXT[region] for region in self.regions),
            self._ssim(),
            self._lpips(),
            *self._surroundings(),
            self._masks(),
            "one mask for a whole scan, superpatches overlap by half and are blended"
            if self.whole_scan
            else "no overlap of superpatches",
            "scored per scan, then averaged over scans",
        ]
        return f"{'; '.join(parts)}. [protocol {self.id}]"

    def _masks(self) -> str:
        if self.masking == "off":
            return "masking off: the network sees every voxel"
        what = f"{self.masks} masks, " if self.masks else ""
        if self.mask_draws == 1:
            return f"{what}one mask draw, seed {self.mask_seed}"
        return f"{what}{self.mask_draws} mask draws a scan, seed {self.mask_seed}, errors averaged over them"

    def of_run(self, window: Window) -> Protocol:
        """The protocol with the window of a run, which decides what its network sees.

        Raises:
            ConfigError: The protocol was given another window.
        """
        if self.window not in (Window(), window):
            raise ConfigError(
                f"the window {_bounds(self.window)} was given, and the run's network sees {_bounds(window)}",
                fix="leave --protocol.window.low-hu and --protocol.window.high-hu out",
            )
        return replace(self, window=window)

    @property
    def folder_ending(self) -> str:
        """What follows a split in the name of its folder of scores: each kind of masks has its own."""
        if self.masking == "off":
            return "-unmasked"
        return f"{f'-{self.masks}' if self.masks else ''}{'-whole-scan' if self.whole_scan else ''}"

    def masking_of(self, run: Masking) -> Masking:
        """The masking used for scoring, given the run's own."""
        return MASKINGS[self.masks]() if self.masks else run

    def _ssim(self) -> str:
        return f"SSIM {self.ssim.upper()}{'' if self.ssim == '3d' else ' (axial)'}, Gaussian sigma 1.5, no padding"

    def _lpips(self) -> str:
        if self.lpips is None:
            return "no LPIPS"
        name = {"alex": "AlexNet", "squeeze": "SqueezeNet 1.1"}[self.lpips]
        views = " + ".join(self.lpips_views)
        which = f"every {views} slice" if self.lpips_every == 1 else f"one {views} slice in {self.lpips_every}"
        return f"LPIPS v0.1 {name}, {which}, window mapped to [-1, 1], three equal channels"

    def _surroundings(self) -> list[str]:
        if "masked" not in self.regions:
            return []
        return [f"around masked voxels SSIM and LPIPS see {'the scan' if self.paste else 'the prediction'}"]


def _bounds(window: Window) -> str:
    return f"[{window.low_hu:g}, {window.high_hu:g}]"


def unmasked() -> Protocol:
    """The protocol of the method's published sibling (NEMESIS, arXiv:2604.01612): masking is off in evaluation.

    Its code takes ``-10 log10`` of the mean squared error over every voxel, in a window of [-175, 250] HU. Here each
    scan is scored as one volume; there superpatches are averaged by batches, without resampling. Do not compare with
    scores of masked voxels: the network sees the voxels it is scored on.
    """
    return Protocol(regions=("predicted",), masking="off", scored_window=Window(-175.0, 250.0), mask_draws=1)


def whole_scan() -> Protocol:
    """Our protocol with one mask for a whole scan; scores differ from those under masks of each superpatch."""
    return Protocol(whole_scan=True)


PROTOCOLS: Catalog[Callable[[], Protocol]] = Catalog(
    "protocol", {"masked": Protocol, "whole_scan": whole_scan, "unmasked": unmasked}
)
"""Named protocols: ours, with masks of superpatches or of whole scans, and the one that the method's sibling used."""
