"""What is scored, and how: frozen, and named in every score and under every table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, field
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.ct.window import Window
from maesil.errors import ConfigError

Region = Literal["whole", "masked", "composite"]
View = Literal["axial", "coronal", "sagittal"]
REGIONS: tuple[Region, ...] = ("whole", "masked", "composite")

REGION_TEXT: dict[str, str] = {
    "whole": "whole = every voxel as the network predicts it",
    "masked": "masked = masked voxels only",
    "composite": "composite = every voxel, visible ones pasted in from the scan",
}
NOT_SCIENCE = ("batch",)
"""Fields that no score depends on."""


@dataclass(frozen=True)
class Protocol:
    """How reconstructions are scored. The paper leaves most of this open; see docs/reproducing.md.

    Args:
        regions: The voxels that count; "whole" is the paper's table, "masked" is what was learnt.
        window: HU window mapped to [0, 1]; the data range of PSNR and SSIM is 1 over it.
        clip: Predictions are clipped to the window, as the scan is.
        aggregation: Each scan is scored as one volume, then tables take means over scans.
        ssim: Gaussian windows (sigma 1.5) over volumes ("3d") or axial slices ("2d").
        lpips: Backbone of LPIPS v0.1; None: no LPIPS.
        lpips_views: Planes that slices are cut in; their means are averaged.
        lpips_every: Every which slice LPIPS sees, from the middle of the first such stretch.
        paste: In "masked", what SSIM's windows and LPIPS see of visible voxels comes from the scan, not the network.
        mask_seed: Of the masks; with the scan and the tile it decides each of them.
        overlap: Voxels that neighbouring superpatches share along each axis.
        batch: Superpatches, or slices, at a time.
    """

    regions: tuple[Region, ...] = REGIONS
    window: Window = field(default_factory=Window)
    clip: bool = True
    aggregation: Literal["scan"] = "scan"
    ssim: Literal["3d", "2d"] = "3d"
    lpips: Literal["alex", "squeeze"] | None = "alex"
    lpips_views: tuple[View, ...] = ("axial",)
    lpips_every: PositiveInt = 1
    paste: bool = True
    mask_seed: int = 0
    overlap: NonNegativeInt = 0
    batch: PositiveInt = 8

    def __post_init__(self) -> None:
        for name, values in (("regions", self.regions), ("lpips_views", self.lpips_views)):
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{name} must name at least one, each once, not {list(values)}")

    @property
    def id(self) -> str:
        """Eight characters that differ wherever a score could: scores of different ids are never put in one table."""
        settings = {key: value for key, value in asdict(self).items() if key not in NOT_SCIENCE}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    def describe(self) -> str:
        """The protocol in one line of plain words, ending in its id."""
        parts = [
            f"HU window [{self.window.low_hu:g}, {self.window.high_hu:g}] mapped to [0, 1], data range 1",
            "predictions clipped to it" if self.clip else "predictions not clipped",
            *(REGION_TEXT[region] for region in self.regions),
            self._ssim(),
            self._lpips(),
            *self._surroundings(),
            f"mask seed {self.mask_seed}",
            f"superpatches overlap by {self.overlap} voxels" if self.overlap else "no overlap of superpatches",
            "scored per scan, then averaged over scans",
        ]
        return f"{'; '.join(parts)}. [protocol {self.id}]"

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
