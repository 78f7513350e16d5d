"""Window, spacing and padding of an exported encoder, for `transformers.AutoImageProcessor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from transformers import BaseImageProcessor, BatchFeature


class MaesilImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Brings CT volumes in Hounsfield units to the encoder's voxels and window.

    Args:
        low_hu: HU that becomes 0.
        high_hu: HU that becomes 1.
        spacing_mm: Voxel size of the pre-training, if it had one.
        cube: Number of voxels along each axis that whole scans of the pre-training were resampled to, if they were;
            with neither, volumes are taken as they are.
        patch: Voxels of a patch; volumes are padded with air at their far ends to multiples of it.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 (transformers declares it so)

    def __init__(
        self,
        low_hu: float = -1000.0,
        high_hu: float = 1000.0,
        spacing_mm: float | None = None,
        patch: Sequence[int] = (8, 8, 8),
        cube: int | None = None,
        **named: Any,
    ) -> None:
        super().__init__(**named)
        self.low_hu, self.high_hu, self.spacing_mm, self.patch = low_hu, high_hu, spacing_mm, list(patch)
        self.cube = cube

    def preprocess(
        self, images: Any, spacing_mm: Sequence[float] | None = None, return_tensors: Any = None, **_: Any
    ) -> BatchFeature:
        """Converts one volume, or several of one size, to the encoder's input.

        Args:
            images: Volume (d, h, w) in HU with axes Superior, Posterior, Left, or a list or batch of them.
            spacing_mm: Voxel size along the axes; None: the voxels are those of the pre-training already. A volume with
                it has to be a whole scan if the pre-training's scans were resampled to a cube.
            return_tensors: Accepted for compatibility; the result has PyTorch tensors.

        Returns:
            `pixel_values`: (b, 1, d, h, w), float32 in [0, 1].
        """
        volumes = [torch.as_tensor(np.asarray(one), dtype=torch.float32) for one in _listed(images)]
        if any(volume.ndim != 3 for volume in volumes):
            raise ValueError(f"a volume needs three axes (d, h, w), not {tuple(volumes[0].shape)}")
        return BatchFeature({"pixel_values": torch.stack([self._ready(volume, spacing_mm) for volume in volumes])})

    def _ready(self, hu: torch.Tensor, spacing_mm: Sequence[float] | None) -> torch.Tensor:
        unit = ((hu - self.low_hu) / (self.high_hu - self.low_hu)).clamp(0, 1)[None, None]
        size = list(hu.shape) if spacing_mm is None else self._size(list(hu.shape), [float(mm) for mm in spacing_mm])
        if size != list(hu.shape):
            unit = F.interpolate(unit, size=size, mode="trilinear")
        short = [-n % edge for n, edge in zip(unit.shape[2:], self.patch, strict=True)]
        return F.pad(unit, [0, short[2], 0, short[1], 0, short[0]])[0]

    def _size(self, shape: list[int], steps_mm: list[float]) -> list[int]:
        """Number of voxels along each axis after resampling."""
        if self.cube is not None:
            return [self.cube] * 3
        if self.spacing_mm is None:
            return shape
        return [max(1, round(n * step / self.spacing_mm)) for n, step in zip(shape, steps_mm, strict=True)]


def _listed(images: Any) -> list[Any]:
    if isinstance(images, (list, tuple)):
        return list(images)
    return list(images) if np.ndim(images) == 4 else [images]
