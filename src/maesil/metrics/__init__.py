"""How close a reconstruction comes to its scan. Every metric can be taken over a region of voxels."""

from __future__ import annotations

from maesil.metrics.lpips import Lpips, load_lpips
from maesil.metrics.psnr import psnr
from maesil.metrics.ssim import region_mean, ssim_map

__all__ = ["Lpips", "load_lpips", "psnr", "region_mean", "ssim_map"]
