"""The pre-trained encoder as a separate network: from a box of CT to tokens or feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.models.mae import Encoder, MAEConfig
from maesil.shapes import Shape3


@final
class Backbone(nn.Module):
    """The encoder of a masked autoencoder without masks, for downstream tasks.

    Token order is `PatchGrid`'s: row-major over (Superior, Posterior, Left); a feature map has the same axes as its
    input. The input can be any box whose edges are multiples of the patch; on another grid than the pre-trained one,
    positional encodings are interpolated, as is usual for ViTs.

    Args:
        config: Configuration of the pre-trained model; only the encoder's part is used.
        low_hu: HU value that the network receives as 0.
        high_hu: HU value that the network receives as 1.
    """

    def __init__(self, config: MAEConfig, *, low_hu: float = -1000.0, high_hu: float = 1000.0) -> None:
        super().__init__()
        self.config = config
        self.low_hu, self.high_hu = low_hu, high_hu
        self.encoder = Encoder(config)

    @property
    def width(self) -> int:
        """Number of channels e of tokens and feature maps."""
        return self.config.encoder_width

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.config.encoder_depth

    @property
    def patch(self) -> Shape3:
        """Voxels of a patch along (S, P, L)."""
        return self.config.patch

    def from_hu(self, hu: Any) -> Tensor:
        """Converts Hounsfield units to the network's input: the window mapped to [0, 1] and clipped, float32.

        Raises:
            ConfigError: `hu` is not a tensor.
        """
        if not isinstance(hu, Tensor):
            raise ConfigError(
                f"from_hu needs a tensor, not {type(hu).__name__}", fix="torch.from_numpy(hu)[None, None]"
            )
        return ((hu.float() - self.low_hu) / (self.high_hu - self.low_hu)).clamp(0.0, 1.0)

    def forward(self, volume: Float[Tensor, "b 1 d h w"]) -> Float[Tensor, "b e gd gh gw"]:
        """The last feature map.

        Args:
            volume: (b, 1, d, h, w) in window units [0, 1] (`from_hu`), orientation SPL; edges multiples of the patch.

        Raises:
            ConfigError: The input has other axes, or an edge is not a multiple of the patch.
        """
        return self.features(volume, (self.depth,))[0]

    def tokens(self, volume: Float[Tensor, "b 1 d h w"]) -> Float[Tensor, "b n e"]:
        """The last tokens (b, n, e), in `PatchGrid`'s order."""
        return self._layers(volume, (self.depth,))[0]

    def features(
        self,
        volume: Float[Tensor, "b 1 d h w"],
        depths: Sequence[int],
        groups: Int[Tensor, "g m"] | None = None,
    ) -> list[Float[Tensor, "b e gd gh gw"]]:
        """Feature maps after chosen blocks.

        Args:
            volume: As in `forward`.
            depths: Number of blocks before each map, from 0 (embedding and positions) to `depth` (after the last norm).
            groups: Tokens that are encoded together, by number, as `token_groups` returns them; None: all of them.
        """
        grid = self.grid_of(volume)
        return [to_map(tokens, grid) for tokens in self._layers(volume, depths, groups)]

    def grid_of(self, volume: Float[Tensor, "b 1 d h w"]) -> PatchGrid:
        """The grid of patches of an input.

        Raises:
            ConfigError: The input has not the axes (b, 1, d, h, w), or the patch does not divide it.
        """
        if volume.ndim != 5 or int(volume.shape[1]) != 1:
            raise ConfigError(
                f"the encoder needs a tensor (batch, 1, d, h, w), not one of shape {tuple(volume.shape)}",
                fix="give batch and channel an axis each: volume[None, None] for one volume (d, h, w)",
            )
        d, h, w = (int(size) for size in volume.shape[2:])  # while TorchScript traces, they are tensors
        return PatchGrid((d, h, w), self.patch)

    def _layers(
        self,
        volume: Float[Tensor, "b 1 d h w"],
        depths: Sequence[int],
        groups: Int[Tensor, "g m"] | None = None,
    ) -> list[Float[Tensor, "b n e"]]:
        unknown = [depth for depth in depths if not 0 <= depth <= self.depth]
        if unknown:
            raise ConfigError(f"there is no depth {unknown[0]}", fix=f"the encoder has 0 to {self.depth}")
        grid = self.grid_of(volume)
        normalized = (volume - self.config.input_mean) / self.config.input_std
        tokens = self.encoder.embed(grid.patchify(normalized.to(self.encoder.embed.weight.dtype)))
        tokens = tokens + self.positions(grid.shape)
        rotation = None if self.encoder.rotary is None else self.encoder.rotary(grid.shape)
        if groups is not None:
            rotation = None if rotation is None else rotation.of(groups.repeat(len(tokens), 1))
            tokens = tokens[:, groups].flatten(0, 1)
        layers = {0: tokens}
        for done, after in enumerate(self.encoder.layers(tokens, rotation), start=1):
            layers[done] = tokens = after
        layers[self.depth] = self.encoder.norm(tokens)
        chosen = [layers[depth] for depth in depths]
        if groups is None:
            return chosen
        back = groups.flatten().argsort()
        return [layer.unflatten(0, (-1, len(groups))).flatten(1, 2)[:, back] for layer in chosen]

    def positions(self, shape: Shape3) -> Float[Tensor, "n e"]:
        """Positional encodings of a grid (gd, gh, gw), interpolated unless it is the pre-trained one."""
        return resized_positions(self.encoder.positions(), self.config.grid.shape, shape)


def token_groups(grid: PatchGrid, blocks: int, parts: int, *, seed: int = 0) -> Int[Tensor, "g m"]:
    """Divides tokens into groups like those that a dual mask leaves visible, which the encoder knows from pre-training.

    Args:
        grid: The grid of patches.
        blocks: Number of blocks of planes along Superior-Inferior, of equal height.
        parts: Number of parts of each plane, of equal size; which patch is in which part is drawn.
        seed: Seed of the draw.

    Returns:
        Numbers of the tokens of each group; each token is in one of the blocks x parts groups.

    Raises:
        ConfigError: The planes cannot be divided into so many blocks, or a plane into so many parts.
    """
    planes, each = grid.shape[0], grid.tokens // grid.shape[0]
    if blocks < 1 or parts < 1 or planes % blocks or each % parts:
        raise ConfigError(
            f"{planes} planes of {each} patches cannot be divided into {blocks} blocks of planes and {parts} parts",
            fix="groups of 2 and 2: halves, as a dual mask of 75 % leaves visible",
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randperm(each, generator=generator) for _ in range(planes)])
    numbers = drawn + each * torch.arange(planes)[:, None]
    return rearrange(numbers, "(block plane) (part patch) -> (block part) (plane patch)", block=blocks, part=parts)


def to_map(tokens: Float[Tensor, "b n e"], grid: PatchGrid) -> Float[Tensor, "b e gd gh gw"]:
    """Arranges tokens as a feature map with the axes of the volume."""
    gd, gh, gw = grid.shape
    feature_map: Tensor = rearrange(tokens, "b (gd gh gw) e -> b e gd gh gw", gd=gd, gh=gh, gw=gw)
    return feature_map


def resized_positions(table: Float[Tensor, "n0 e"], old: Shape3, new: Shape3) -> Float[Tensor, "n e"]:
    """Interpolates positional encodings trilinearly to another grid; the outer faces of both grids coincide."""
    if new == old:
        return table
    stacked = to_map(table.unsqueeze(0), PatchGrid(old, (1, 1, 1)))
    resized = F.interpolate(stacked.float(), size=new, mode="trilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2)[0].to(table.dtype)


@torch.no_grad()
def backbone_of(encoder: Encoder, config: MAEConfig, *, low_hu: float, high_hu: float) -> Backbone:
    """Makes a backbone with a copy of the weights of a pre-trained encoder."""
    backbone = Backbone(config, low_hu=low_hu, high_hu=high_hu)
    backbone.encoder.load_state_dict(encoder.state_dict())
    return backbone.eval()
