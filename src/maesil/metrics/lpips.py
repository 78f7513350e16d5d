"""Learned perceptual image patch similarity (Zhang et al. 2018), version 0.1, on AlexNet or SqueezeNet 1.1.

Own module because torchvision cannot be counted on beside every build of torch. Keys are torchvision's and the
published heads' own, so that their files load as they are.
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

    Cannot be made from weights other than the published ones.

    Args:
        net: "alex" or "squeeze".
        backbone: torchvision's state dict of the network; only `features.*` are used.
        heads: The v0.1 linear heads, `lin{i}.model.1.weight`.

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
        """Least edge of an image in pixels; the network's strides leave nothing of a smaller one."""
        return SMALLEST_IMAGE[self.net]

    def forward(
        self, first: Float[Tensor, "b channels h w"], second: Float[Tensor, "b channels h w"]
    ) -> Float[Tensor, " b"]:
        """Distances of images (b, 1 or 3, h, w) in [-1, 1]; one channel is repeated."""
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
        """Distances of described images, the published definition: each layer's mean over space, summed."""
        return torch.stack([layer.mean(dim=(1, 2, 3)) for layer in self._layers(first, second)]).sum(0)

    def spatial(
        self, first: Sequence[Tensor], second: Sequence[Tensor], size: tuple[int, int]
    ) -> Float[Tensor, "b h w"]:
        """Distance per pixel: each layer enlarged bilinearly to (h, w), summed."""
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
        net: "alex" or "squeeze".
        folder: Where the weights are; None: the places `maesil.metrics.weights.folders` names.
        fetch: Download an absent backbone from torchvision's own address.

    Raises:
        WeightsError: They are absent, cannot be fetched or read, or are not the published ones; LPIPS is then left out.
    """
    backbone = f"{net} backbone"
    if fetch and find_weights(backbone, folder) is None:
        try:
            fetch_backbone(net, folder)
        except DownloadError as error:
            raise WeightsError(error.what, where=error.where, fix=error.fix) from error
    return Lpips(net, read_weights(backbone, folder), read_weights(f"{net} heads", folder))
