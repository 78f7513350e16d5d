"""Augmentation of labelled superpatches with MONAI's transforms: rotation, zoom, contrast and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Int
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import RandGaussianNoised, RandScaleIntensityd
from monai.transforms.spatial.dictionary import RandAffined
from torch import Tensor

from maesil.ct.window import Window
from maesil.tasks.segmentation.config import NO_AUGMENTATION, AugmentConfig

IMAGE, LABELS = "image", "labels"
AFFINE_SHARE = 0.8
"""Share of superpatches that are rotated and zoomed."""
INTENSITY_SHARE = 0.5
"""Share of superpatches whose contrast changes, and share of those that get noise."""


@final
class Augmenter:
    """Changes superpatches and their labels at random.

    Args:
        config: What is changed, and how much.
        window: HU window of the superpatches.
    """

    def __init__(self, config: AugmentConfig, window: Window) -> None:
        self._transform = Compose(list(_transforms(config, window)))

    def __call__(
        self,
        volume: Float[Tensor, "b 1 d h w"],
        labels: Int[Tensor, "b 1 d h w"],
        generators: Sequence[torch.Generator],
    ) -> tuple[Float[Tensor, "b 1 d h w"], Int[Tensor, "b 1 d h w"]]:
        """Changed superpatches and labels.

        Args:
            volume: Superpatches in window units [0, 1].
            labels: Class of each voxel.
            generators: Sources of randomness, one for each superpatch.
        """
        if not self._transform.transforms:
            return volume, labels
        changed = [self._one(*each) for each in zip(volume, labels, generators, strict=True)]
        return torch.stack([image for image, _ in changed]), torch.stack([marks for _, marks in changed])

    def _one(self, image: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        self._transform.set_random_state(seed=seed)
        with torch.autocast(image.device.type, enabled=False):  # places of voxels need float32
            changed = self._transform({IMAGE: image, LABELS: labels.to(image.dtype)})
        image, labels = (torch.as_tensor(changed[key]).as_subclass(Tensor) for key in (IMAGE, LABELS))
        return image.clamp(0, 1), labels.round().long()


def _transforms(config: AugmentConfig, window: Window) -> Iterator[Callable[[Any], Any]]:
    if config.rotation or config.zoom != NO_AUGMENTATION.zoom:
        angle = math.radians(config.rotation)
        low, high = config.zoom
        yield RandAffined(
            (IMAGE, LABELS),
            prob=AFFINE_SHARE,
            rotate_range=[(-angle, angle)] * 3,
            scale_range=[(1 / high - 1, 1 / low - 1)] * 3,  # MONAI draws by how much a step in the input is longer
            mode=("bilinear", "nearest"),
            padding_mode="reflection",
        )
    if config.contrast:
        yield RandScaleIntensityd(IMAGE, factors=config.contrast, prob=INTENSITY_SHARE)
    if config.noise_hu:
        deviation = config.noise_hu / (window.high_hu - window.low_hu)
        yield RandGaussianNoised(IMAGE, prob=INTENSITY_SHARE, std=deviation)
