"""The common part of the paper's baselines: a convolutional body, a bottleneck, full reconstruction (§IV-B).

AE, VAE and VQ-VAE differ only in the bottleneck, so comparing them compares bottlenecks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from maesil.errors import ConfigError, MissingExtraError
from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models.contract import ModelConfig, Pretrainer, Reconstruction, Reconstructor
from maesil.models.mean import visible_mean
from maesil.shapes import Shape3, product

MASKED_INPUT = "masked input"
"""Name in tables of an autoencoder that sees only the visible voxels, as masked models do."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AutoencoderConfig(ModelConfig):
    """Sizes of the convolutional body, MONAI's `AutoEncoder`: every level halves the superpatch.

    Args:
        superpatch: Voxels of a superpatch along (S, P, L).
        patch: Voxels of a patch of the masks that the model is scored under.
        channels: Number of channels of each level, from the finest.
        residual_units: Number of convolutions in a level's residual unit; 0: one plain convolution.
        latent_channels: Number of channels of the latent, at the coarsest level.
        corrupt: Whether to train on the masked input, as a context autoencoder, instead of the whole superpatch.
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
    def positions(self) -> int:
        """Number of positions of the latent."""
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
    """An encoder, a bottleneck and a decoder, trained to rebuild the input.

    Args:
        config: Sizes of the body.
        masking: Choice of the tokens to mask where the model is scored on masked input.
        heads: Number of values that the encoder predicts for each value of the latent.
    """

    def __init__(self, config: AutoencoderConfig, masking: Masking, heads: int = 1) -> None:
        super().__init__(config.grid, masking)
        self.config = config
        body = _monai_body(config)
        width = config.channels[-1]
        self.encoder = nn.Sequential(body.encode, nn.Conv3d(width, heads * config.latent_channels, 1))
        self.decoder = nn.Sequential(nn.Conv3d(config.latent_channels, width, 1), body.decode)

    @abstractmethod
    def rebuild(self, normalized: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Passes the input through the bottleneck, without noise; both ends are in normalised units."""

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds superpatches from their visible voxels; the input has the visible mean in place of masked ones."""
        hidden = self.voxel_mask(mask)
        return Reconstruction(self.rebuild_whole(fill_hidden(superpatch, hidden)), hidden)

    @torch.no_grad()
    def rebuild_whole(self, superpatch: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Rebuilds superpatches from all of their voxels, in window units, float32."""
        rebuilt = self.rebuild(self.normalize(superpatch)).float()
        return rebuilt * self.config.input_std + self.config.input_mean

    def entries(self, name: str) -> Mapping[str, Reconstructor]:
        """Two rows: with the whole input, as in the paper, and with the masked input, as masked models have it."""
        if self.config.corrupt:
            return {name: self}
        return {name: WholeInput(self), f"{name}, {MASKED_INPUT}": self}

    def training_input(
        self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b c d h w"]:
        """The network's input in training, in normalised units."""
        shown = fill_hidden(superpatch, self.voxel_mask(mask)) if self.config.corrupt else superpatch
        return self.normalize(shown)

    def normalize(self, superpatch: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Converts window units to the network's, in its number type and the memory layout of fast 3D convolutions."""
        normalized = (superpatch - self.config.input_mean) / self.config.input_std
        return normalized.to(
            next(self.parameters()).dtype, memory_format=torch.channels_last_3d
        )  # a third faster on a CPU

    def error(self, rebuilt: Float[Tensor, "b c d h w"], superpatch: Float[Tensor, "b c d h w"]) -> Float[Tensor, ""]:
        """Mean squared error over every voxel, in units of `input_std` squared."""
        return (rebuilt.float() - self.normalize(superpatch).float()).square().mean()


@final
class WholeInput(Reconstructor):
    """An autoencoder in the paper's setting: it sees every voxel, and is scored on voxels that it has seen.

    Args:
        model: The trained autoencoder.
    """

    sees_all = True

    def __init__(self, model: Autoencoder) -> None:
        super().__init__(model.grid, model.masking)
        self.model = model

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds superpatches from all of their voxels; `mask` only selects the voxels that are scored as masked."""
        return Reconstruction(self.model.rebuild_whole(superpatch), self.voxel_mask(mask))


def fill_hidden(
    superpatch: Float[Tensor, "b c d h w"], hidden: Bool[Tensor, "b 1 d h w"]
) -> Float[Tensor, "b c d h w"]:
    """Sets hidden voxels to the mean of their superpatch's visible ones."""
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
        norm=None,  # type: ignore[arg-type]  # an instance norm would remove the absolute level of HU
    )
