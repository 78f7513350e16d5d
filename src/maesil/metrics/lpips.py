"""Learned perceptual image patch similarity (Zhang et al. 2018), version 0.1, on AlexNet or SqueezeNet 1.1.

Implemented here because torchvision is not available for every build of torch. Keys are those of torchvision and of
the published heads, so that their files load unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float
from torch import Tensor, nn

from maesil.errors import DownloadError, WeightsError
from maesil.metrics.backbones import BACKBONES, SMALLEST_IMAGE
from maesil.metrics.weights import fetch_backbone, find_weights, read_weights, verify

Net = Literal["alex", "squeeze"]
CHANNEL_SHIFT = (-0.030, -0.088, -0.188)
CHANNEL_SCALE = (0.458, 0.448, 0.450)


@final
class Lpips(nn.Module):
    """Perceptual distance of two images: 0 for identical ones, lower is closer.

    Accepts only the published weights.

    Args:
        net: Backbone network, "alex" or "squeeze".
        backbone: State dict of the network from torchvision; only `features.*` is used.
        heads: State dict of the v0.1 linear heads, `lin{i}.model.1.weight`.

    Raises:
        WeightsError: The values are not the published ones.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net, backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net: Net = net
        features, taps = BACKBONES[net]()
        self.taps = taps
        self.features = features
        self.features.load_state_dict(verify(f"{net} backbone", backbone))
        verified = verify(f"{net} heads", heads)
        for index in range(len(taps)):
            self.register_buffer(f"head{index}", verified[f"lin{index}.model.1.weight"].float())
        self.register_buffer("shift", torch.tensor(CHANNEL_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(CHANNEL_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    @property
    def smallest_image(self) -> int:
        """Smallest edge of an image in pixels; the network's strides leave nothing of a smaller one."""
        return SMALLEST_IMAGE[self.net]

    def forward(
        self, first: Float[Tensor, "b channels h w"], second: Float[Tensor, "b channels h w"]
    ) -> Float[Tensor, " b"]:
        """Distances of images (b, 1 or 3, h, w) in [-1, 1]; a single channel is repeated."""
        return self.distance(self.describe(first), self.describe(second))

    def describe(self, images: Float[Tensor, "b channels h w"]) -> list[Tensor]:
        """Unit-length features of every tapped layer; describe an image once to compare it with several."""
        hidden = (images - self.shift) / self.scale
        layers = []
        for index, layer in enumerate(self.features):
            hidden = layer(hidden)
            if index in self.taps:
                layers.append(hidden / (hidden.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return layers

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Float[Tensor, " b"]:
        """Distances of described images by the published definition: the sum of each layer's spatial mean."""
        return torch.stack([layer.mean(dim=(1, 2, 3)) for layer in self._layers(first, second)]).sum(0)

    def spatial(
        self, first: Sequence[Tensor], second: Sequence[Tensor], size: tuple[int, int]
    ) -> Float[Tensor, "b h w"]:
        """Distance per pixel: the sum of all layers, each upsampled bilinearly to (h, w)."""
        layers = self._layers(first, second)
        enlarged = [F.interpolate(layer, size, mode="bilinear", align_corners=False) for layer in layers]
        return torch.stack(enlarged).sum(0)[:, 0]

    def _layers(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
        return [
            F.conv2d((a - b).square(), self.get_buffer(f"head{index}"))
            for index, (a, b) in enumerate(zip(first, second, strict=True))
        ]


def load_lpips(net: Net = "alex", folder: Path | None = None, *, fetch: bool = False) -> Lpips:
    """LPIPS with the published weights.

    Args:
        net: Backbone network, "alex" or "squeeze".
        folder: Folder of the weights; None: those listed by `maesil.metrics.weights.folders`.
        fetch: Whether to download a missing backbone from torchvision's own address.

    Raises:
        WeightsError: The weights are missing, unreadable or not the published ones; LPIPS is then left out.
    """
    backbone = f"{net} backbone"
    if fetch and find_weights(backbone, folder) is None:
        try:
            fetch_backbone(net, folder)
        except DownloadError as error:
            raise WeightsError(error.what, where=error.where, fix=error.fix) from error
    return Lpips(net, read_weights(backbone, folder), read_weights(f"{net} heads", folder))
