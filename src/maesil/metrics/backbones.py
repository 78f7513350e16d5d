"""The convolutional features of AlexNet and SqueezeNet 1.1, with torchvision's key names, and LPIPS's taps."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST_IMAGE = {"alex": 31, "squeeze": 17}
"""Smallest edge of an image in pixels; the networks' strides leave nothing of smaller ones."""


@final
class Fire(nn.Module):
    """SqueezeNet's building block: narrow to `squeezed` channels, then widen by parallel 1x1 and 3x3 convolutions."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c_out h w"]:
        """Features of twice `expanded` channels."""
        narrow = self.squeeze(images).relu()
        return torch.cat((self.expand1x1(narrow).relu(), self.expand3x3(narrow).relu()), dim=1)


def alexnet() -> tuple[nn.Sequential, tuple[int, ...]]:
    """AlexNet's features and the five ReLUs that are tapped."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )
    return layers, (1, 4, 7, 9, 11)


def squeezenet() -> tuple[nn.Sequential, tuple[int, ...]]:
    """SqueezeNet 1.1's features and the seven layers that are tapped."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    )
    return layers, (1, 4, 7, 9, 10, 11, 12)


BACKBONES: dict[str, Callable[[], tuple[nn.Sequential, tuple[int, ...]]]] = {"alex": alexnet, "squeeze": squeezenet}
