"""Metrics of how close a reconstruction is to its scan. Each can be restricted to a region of voxels."""

from __future__ import annotations

from maesil.metrics.lpips import Lpips, load_lpips
from maesil.metrics.psnr import psnr
from maesil.metrics.ssim import region_mean, ssim_map

__all__ = ["Lpips", "load_lpips", "psnr", "region_mean", "ssim_map"]
