"""A 3D U-Net that is trained to fill in masked voxels: the convolutional counterpart of masked autoencoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from maesil.errors import ConfigError, MissingExtraError
from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models.contract import ModelConfig, Pretrainer, Reconstruction
from maesil.models.masked_loss import check_ssim_fits, masked_loss
from maesil.shapes import Shape3


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class UNetConfig(ModelConfig):
    """Sizes and options of MONAI's `UNet`: every level halves the superpatch and has a skip connection.

    Args:
        superpatch: Voxels of a superpatch along (S, P, L).
        patch: Voxels of a patch of the mask.
        channels: Number of channels of each level, from the finest, which has half of the superpatch's resolution.
        residual_units: Number of convolutions in a level's residual unit; 0: one plain convolution.
        norm: Kind of normalisation between convolutions. None by default, as in the autoencoders: an instance norm
            would remove the absolute level of HU.
        input_mean: Mean of the input in window units; subtracted before the network.
        input_std: Standard deviation of the input in window units; the network works in its multiples.
        ssim_weight: Weight of 1 - SSIM of masked voxels in the loss, beside their squared error, in units of
            `input_std` squared, as in the fusion of `maesil`.
    """

    name: Literal["unet"] = "unet"
    superpatch: Shape3 = (128, 128, 128)
    patch: Shape3 = (8, 8, 8)
    channels: tuple[PositiveInt, ...] = (32, 64, 128, 256, 512)
    residual_units: NonNegativeInt = 0
    norm: Literal["instance", "batch"] | None = None
    input_mean: float = 0.3
    input_std: PositiveFloat = 0.25
    ssim_weight: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        PatchGrid(self.superpatch, self.patch)
        if len(self.channels) < 2:
            raise ConfigError(
                f"a U-Net has at least two levels, not {len(self.channels)}", fix="--model.channels 32 64"
            )
        scale = 2 ** (len(self.channels) - 1)
        if any(size % scale for size in self.superpatch):
            raise ConfigError(
                f"{len(self.channels)} levels do not halve a superpatch of {'x'.join(map(str, self.superpatch))}",
                fix=f"a multiple of {scale} voxels, or fewer --model.channels",
            )
        check_ssim_fits(self.superpatch, self.ssim_weight, "--model.ssim-weight")

    def describe(self) -> dict[str, str]:
        """Descriptions of network and input."""
        channels = " - ".join(map(str, self.channels))
        kind = f"residual units of {self.residual_units} convolutions" if self.residual_units else "convolutions"
        return {
            "network": f"U-Net of {kind}, {channels} channels, each level at half of the one before",
            "input": "visible voxels, masked ones at the input's mean; and the mask",
        }


@final
class UNet(Pretrainer):
    """Predicts the masked voxels from the visible ones and the mask.

    Args:
        config: Sizes and options.
        masking: Choice of the tokens to mask.
    """

    def __init__(self, config: UNetConfig, masking: Masking) -> None:
        super().__init__(config.grid, masking)
        self.config = config
        self.network = monai_unet(2, config.channels, config.residual_units, config.norm)
        self.encoder = nn.Identity()  # skip connections at every level leave no bottleneck

    def loss(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        mask: Bool[Tensor, "b n"],
        generators: Sequence[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Mean squared error over the masked voxels, in units of `input_std` squared. See `Pretrainer.loss`.

        With `ssim_weight`, 1 - SSIM of them is added, with this weight.
        """
        hidden = self.voxel_mask(mask)
        predicted = self._rebuild(superpatch, hidden)
        return masked_loss(predicted, superpatch.float(), hidden, self.config.input_std, self.config.ssim_weight)

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds superpatches from their visible voxels and the mask."""
        hidden = self.voxel_mask(mask)
        return Reconstruction(self._rebuild(superpatch, hidden), hidden)

    def _rebuild(
        self, superpatch: Float[Tensor, "b c d h w"], hidden: Bool[Tensor, "b 1 d h w"]
    ) -> Float[Tensor, "b c d h w"]:
        """Predicts all voxels, in window units, float32."""
        normalized = (superpatch.float() - self.config.input_mean) / self.config.input_std
        visible = normalized.masked_fill(hidden, 0.0)
        shown = torch.cat((visible, hidden.to(visible.dtype)), dim=1)
        # 3D convolutions are faster with channels last on a CPU.
        shown = shown.to(next(self.network.parameters()).dtype, memory_format=torch.channels_last_3d)
        predicted: Tensor = self.network(shown).float()
        return predicted * self.config.input_std + self.config.input_mean


def monai_unet(
    inputs: int,
    channels: Sequence[int],
    residual_units: int = 0,
    norm: Literal["instance", "batch"] | None = None,
) -> Any:
    """MONAI's `UNet` from voxels to one channel of voxels.

    Args:
        inputs: Number of channels that it sees.
        channels: Number of channels of each level, from the finest, which has half of the resolution.
        residual_units: Number of convolutions in a level's residual unit; 0: one plain convolution.
        norm: Kind of normalisation between convolutions.

    Raises:
        MissingExtraError: MONAI is not installed.
    """
    try:
        from monai.networks.nets.unet import UNet as MonaiUNet
    except ImportError as error:
        raise MissingExtraError("the U-Net is MONAI's network", fix="pip install monai") from error
    return MonaiUNet(
        spatial_dims=3,
        in_channels=inputs,
        out_channels=1,
        channels=channels,
        strides=(2,) * (len(channels) - 1),
        num_res_units=residual_units,
        norm=norm,  # type: ignore[arg-type]
    )
