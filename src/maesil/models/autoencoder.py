"""What the paper's baselines share: a convolutional body, a stated bottleneck, full reconstruction (§IV-B).

AE, VAE and VQ-VAE differ in the bottleneck alone, so a comparison of them is one of bottlenecks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from maesil.errors import ConfigError, MissingExtraError
from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models.contract import Pretrainer, Reconstruction, Reconstructor
from maesil.models.mean import visible_mean
from maesil.shapes import Shape3, product

MASKED_INPUT = "masked input"
"""How tables name an autoencoder that sees the visible voxels only, as masked models do."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """The convolutional body, MONAI's `AutoEncoder`: every level halves the superpatch.

    Args:
        superpatch: Voxels of a superpatch along (S, P, L).
        patch: Voxels of a patch of the mask that scores are taken under.
        channels: Channels of each level, from the finest.
        residual_units: Convolutions in a residual unit per level; 0: one plain convolution.
        latent_channels: Channels of the latent at the coarsest level: with the levels, the bottleneck.
        corrupt: Train on the masked input, as a context autoencoder, rather than on the whole superpatch.
        input_mean: Mean of the input in window units; subtracted before the network.
        input_std: Standard deviation of the input in window units; the network works in its multiples.
    """

    superpatch: Shape3 = (128, 128, 128)
    patch: Shape3 = (8, 8, 8)
    channels: tuple[PositiveInt, ...] = (32, 64, 128)
    residual_units: NonNegativeInt = 0
    latent_channels: PositiveInt = 48
    corrupt: bool = False
    input_mean: float = 0.3
    input_std: PositiveFloat = 0.25

    def __post_init__(self) -> None:
        PatchGrid(self.superpatch, self.patch)
        scale = 2 ** len(self.channels)
        if not self.channels or any(size % scale for size in self.superpatch):
            raise ConfigError(
                f"{len(self.channels)} levels do not halve a superpatch of {'x'.join(map(str, self.superpatch))}",
                fix=f"a multiple of {scale} voxels, or fewer --model.channels",
            )

    @property
    def grid(self) -> PatchGrid:
        """The superpatch's grid of patches."""
        return PatchGrid(self.superpatch, self.patch)

    @property
    def positions(self) -> int:
        """Positions of the latent."""
        return product(self.superpatch) >> 3 * len(self.channels)

    def describe(self) -> dict[str, str]:
        """Encoder, decoder and bottleneck in words."""
        channels = list(map(str, self.channels))
        kind = f"residual units of {self.residual_units} convolutions" if self.residual_units else "convolutions"
        return {
            "encoder": f"{kind}, {' - '.join(channels)} channels, each halving the superpatch",
            "decoder": f"the same in reverse, {' - '.join(reversed(channels))} channels",
            "bottleneck": f"{self.positions} positions of {self.latent_channels} numbers",
        }


class Autoencoder(Pretrainer):
    """An encoder, a bottleneck, a decoder; trained to rebuild what it sees.

    Args:
        config: The body.
        masking: Which tokens are hidden where it is scored on masked input.
        heads: Latent channels that the encoder predicts per channel of the latent.
    """

    def __init__(self, config: AutoencoderConfig, masking: Masking, heads: int = 1) -> None:
        super().__init__(config.grid, masking)
        self.settings = config
        body = _monai_body(config)
        width = config.channels[-1]
        self.encoder = nn.Sequential(body.encode, nn.Conv3d(width, heads * config.latent_channels, 1))
        self.decoder = nn.Sequential(nn.Conv3d(config.latent_channels, width, 1), body.decode)

    @abstractmethod
    def rebuild(self, normalized: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Input to output through the bottleneck, both in normalised units; draws no noise."""

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds superpatches from their visible voxels; masked ones are given as the visible mean.

        Args:
            superpatch: (b, c, d, h, w) in window units [0, 1].
            mask: (b, n), True = masked.
        """
        hidden = self.voxel_mask(mask)
        return Reconstruction(self.rebuild_whole(fill_hidden(superpatch, hidden)), hidden)

    @torch.no_grad()
    def rebuild_whole(self, superpatch: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Rebuilds superpatches that are seen whole, in window units, float32."""
        rebuilt = self.rebuild(self.normalize(superpatch)).float()
        return rebuilt * self.settings.input_std + self.settings.input_mean

    def entries(self, name: str) -> Mapping[str, Reconstructor]:
        """Seeing everything, as in the paper, and seeing what masked models see."""
        if self.settings.corrupt:
            return {name: self}
        return {name: WholeInput(self), f"{name}, {MASKED_INPUT}": self}

    def training_input(
        self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b c d h w"]:
        """What the network is shown in training, in normalised units."""
        shown = fill_hidden(superpatch, self.voxel_mask(mask)) if self.settings.corrupt else superpatch
        return self.normalize(shown)

    def normalize(self, superpatch: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Window units to the network's, in its number type, laid out as 3D convolutions like it."""
        normalized = (superpatch - self.settings.input_mean) / self.settings.input_std
        return normalized.to(
            next(self.parameters()).dtype, memory_format=torch.channels_last_3d
        )  # a third faster on a CPU

    def error(self, rebuilt: Float[Tensor, "b c d h w"], superpatch: Float[Tensor, "b c d h w"]) -> Float[Tensor, ""]:
        """Mean squared error over every voxel, in units of `input_std` squared."""
        return (rebuilt.float() - self.normalize(superpatch).float()).square().mean()


@final
class WholeInput(Reconstructor):
    """An autoencoder in the paper's setting: it sees every voxel, also those it is scored on.

    Args:
        model: The autoencoder.
    """

    sees_all = True

    def __init__(self, model: Autoencoder) -> None:
        super().__init__(model.grid, model.masking)
        self.model = model

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds superpatches from all of their voxels; `mask` only says which are scored as masked."""
        return Reconstruction(self.model.rebuild_whole(superpatch), self.voxel_mask(mask))


def fill_hidden(
    superpatch: Float[Tensor, "b c d h w"], hidden: Bool[Tensor, "b 1 d h w"]
) -> Float[Tensor, "b c d h w"]:
    """Hidden voxels at the mean of their superpatch's visible ones: the value that says least."""
    return torch.where(hidden, visible_mean(superpatch, hidden), superpatch)


def _monai_body(config: AutoencoderConfig) -> Any:
    try:
        from monai.networks.nets.autoencoder import AutoEncoder
    except ImportError as error:
        raise MissingExtraError("the autoencoders are MONAI's networks", fix="pip install monai") from error
    return AutoEncoder(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=config.channels,
        strides=(2,) * len(config.channels),
        num_res_units=config.residual_units,
        norm=None,  # type: ignore[arg-type]  # an instance norm takes away the level that HU are about
    )
