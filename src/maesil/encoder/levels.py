"""The encoder as a source of feature maps at six resolutions, for decoders of other projects: that of kaiko-eva."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from maesil.encoder.load import load
from maesil.errors import ConfigError

DEPTHS = 4
"""Number of depths that the feature maps are made of."""
MULTIPLE = 32
"""Edges of an input are multiples of it: the coarsest map has a voxel per 32^3."""
PATCH = (8, 8, 8)


@final
class FeatureLevels(nn.Module):
    """Feature maps as a Swin UNETR's encoder has them, of a frozen encoder, without any weights of its own.

    With `feature_size` f = e / 4 (e: width of the encoder), the maps are, from fine to coarse:

    - f channels at full resolution: the voxels, and zeros;
    - f channels at 1/2: the 8 voxels of each cell, and zeros;
    - 2 f channels at 1/4: the tokens of four depths, each unfolded into 2^3 cells;
    - 4 f channels at 1/8: the tokens of the last depth;
    - 8 f channels at 1/16: the tokens of the last two depths, averaged over 2^3;
    - 16 f channels at 1/32: the tokens of all four depths, averaged over 4^3.

    Args:
        encoder: A run, a checkpoint, an export or the name of published weights, as `maesil.load` takes it. Its patch
            is 8^3 voxels, and its width a multiple of 8 and at least 32.
        out_indices: Number of maps that are returned, the coarsest ones; None: the mean of the last tokens instead.

    Raises:
        CheckpointError: There is no such encoder.
        ConfigError: The encoder has another patch or width, or there are fewer maps.
    """

    def __init__(self, encoder: str | Path, out_indices: int | None = None) -> None:
        super().__init__()
        self.encoder = load(encoder)
        if self.encoder.patch != PATCH or self.encoder.width % 8 or self.encoder.width < MULTIPLE:
            what = f"these feature maps need patches of 8^3 and a width of 32, 40, ..., not {self.encoder.patch}"
            raise ConfigError(f"{what} and {self.encoder.width}", where=encoder, fix="choose another encoder")
        if out_indices is not None and not 1 <= out_indices <= len(self.channels):
            raise ConfigError(f"there are {len(self.channels)} feature maps", fix=f"not out_indices={out_indices}")
        self.out_indices = out_indices

    @property
    def feature_size(self) -> int:
        """Number of channels of the finest map, which the decoder must be told."""
        return self.encoder.width // 4

    @property
    def channels(self) -> tuple[int, ...]:
        """Number of channels of each map, from fine to coarse."""
        return tuple(self.feature_size * factor for factor in (1, 1, 2, 4, 8, 16))

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths that the maps are made of, evenly over the encoder."""
        return tuple(-(-self.encoder.depth * part // DEPTHS) for part in range(1, DEPTHS + 1))

    def forward(self, volume: Float[Tensor, "b 1 d h w"]) -> Tensor | list[Tensor]:
        """The maps, from fine to coarse; or the vector (b, e), if `out_indices` is None.

        Args:
            volume: (b, 1, d, h, w) in window units [0, 1], orientation SPL; edges multiples of 32.

        Raises:
            ConfigError: An edge is not a multiple of 32.
        """
        if self.out_indices is None:
            last: Tensor = self.encoder(volume)
            return last.mean(dim=(2, 3, 4))
        return self.forward_features(volume)[-self.out_indices :]

    def forward_features(self, volume: Float[Tensor, "b 1 d h w"]) -> list[Tensor]:
        """All six maps, from fine to coarse; see `forward`."""
        if any(int(size) % MULTIPLE for size in volume.shape[2:]):
            fix = "pad it, or choose another ROI_SIZE, such as 96 96 96"
            raise ConfigError(f"edges must be multiples of {MULTIPLE}, not {tuple(volume.shape[2:])}", fix=fix)
        maps = self.encoder.features(volume, self.depths)
        return [
            self._widened(volume),
            self._widened(rearrange(volume, "b c (d i) (h j) (w k) -> b (c i j k) d h w", i=2, j=2, k=2)),
            torch.cat([_unfolded(each) for each in maps], dim=1),
            maps[-1],
            torch.cat([F.avg_pool3d(each, 2) for each in maps[-2:]], dim=1),
            torch.cat([F.avg_pool3d(each, 4) for each in maps], dim=1),
        ]

    def _widened(self, found: Tensor) -> Tensor:
        """A map with channels of zeros up to the number of the finest map."""
        return F.pad(found, (0,) * 6 + (0, self.feature_size - int(found.shape[1])))


def _unfolded(tokens: Float[Tensor, "b e gd gh gw"]) -> Tensor:
    """A map of twice the resolution, with an eighth of the channels; (i, j, k) go to the cells of a token."""
    return rearrange(tokens, "b (c i j k) d h w -> b c (d i) (h j) (w k)", i=2, j=2, k=2)
