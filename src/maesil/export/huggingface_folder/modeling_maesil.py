"""The encoder for `transformers.AutoModel`; needs torch and transformers, not maesil."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_maesil import MaesilConfig


class MaesilModel(PreTrainedModel):  # type: ignore[misc]
    """A ViT over the patches of a box of CT, pre-trained as a masked autoencoder."""

    config_class = MaesilConfig
    main_input_name = "pixel_values"

    def __init__(self, config: MaesilConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config.model)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights are always loaded; fixed positions are computed, as no file has them."""
        if isinstance(module, Positions) and not module.learned:
            module.table.data.copy_(module.encoded().to(module.table))

    def forward(self, pixel_values: Tensor, return_dict: bool | None = None, **_: Any) -> Any:
        """Encodes boxes of voxels.

        Args:
            pixel_values: (b, 1, d, h, w) in window units [0, 1], axes Superior, Posterior, Left, edges multiples of the
                patch, as the image processor returns them.
            return_dict: Whether to return an object instead of a tuple; None: as the configuration says.

        Returns:
            `last_hidden_state`: tokens (b, n, e), row-major over the axes. `pooler_output`: their means (b, e).
        """
        tokens = self.encoder(pixel_values)
        pooled = tokens.mean(dim=1)
        if return_dict is False:
            return tokens, pooled
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=pooled)


class Encoder(nn.Module):
    """Patches, positions, pre-norm blocks, and a norm."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        self.patch, width = tuple(sizes["patch"]), sizes["encoder_width"]
        self.mean, self.std = sizes["input_mean"], sizes["input_std"]
        grid = tuple(size // edge for size, edge in zip(sizes["superpatch"], self.patch, strict=True))
        self.embed = nn.Linear(math.prod(self.patch), width)
        learned = sizes["positions"] == "learned"
        self.positions = Positions(grid, width, tuple(sizes["position_wavelengths"]), learned)
        self.heads, self.width = sizes["encoder_heads"], width
        self.is_eva = sizes.get("encoder_block", "vit") == "eva"
        make = EvaBlock if self.is_eva else Block
        blocks = (make(width, self.heads, sizes["mlp_ratio"]) for _ in range(sizes["encoder_depth"]))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)

    def forward(self, volume: Tensor) -> Tensor:
        """Tokens (b, n, e) of boxes (b, 1, d, h, w)."""
        if volume.ndim != 5 or volume.shape[1] != 1:
            raise ValueError(f"the encoder needs (batch, 1, d, h, w), not {tuple(volume.shape)}")
        if any(size % edge for size, edge in zip(volume.shape[2:], self.patch, strict=True)):
            raise ValueError(f"the edges of {tuple(volume.shape[2:])} are not multiples of the patch {self.patch}")
        grid = [size // edge for size, edge in zip(volume.shape[2:], self.patch, strict=True)]
        (pd, ph, pw), (gd, gh, gw) = self.patch, grid
        normal = ((volume - self.mean) / self.std).to(self.embed.weight.dtype)
        patches = normal.reshape(-1, gd, pd, gh, ph, gw, pw).permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)
        tokens: Tensor = self.embed(patches) + self.positions(grid)
        turns = (rotation(grid, self.width // self.heads, tokens.device),) if self.is_eva else ()
        for block in self.blocks:
            tokens = block(tokens, *turns)
        normed: Tensor = self.norm(tokens)
        return normed


class Positions(nn.Module):
    """Sines and cosines per axis, or a learned table; interpolated to another grid than the pre-trained one."""

    table: Tensor

    def __init__(self, grid: tuple[int, ...], width: int, wavelengths: tuple[float, ...], learned: bool) -> None:
        super().__init__()
        self.grid, self.width, self.wavelengths, self.learned = grid, width, wavelengths, learned
        if learned:
            self.table = nn.Parameter(torch.zeros(math.prod(grid), width))
        else:
            self.register_buffer("table", self.encoded(), persistent=False)

    def encoded(self) -> Tensor:
        """The fixed encodings (n, e)."""
        pairs = self.width // 2
        counts = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
        with torch.device("cpu"):
            places = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in self.grid), indexing="ij")
            parts = [self._axis(place.flatten(), count) for place, count in zip(places, counts, strict=True)]
            return torch.cat(parts, dim=1).float()

    def _axis(self, index: Tensor, pairs: int) -> Tensor:
        shortest, longest = self.wavelengths
        wavelength = shortest * (longest / shortest) ** (torch.arange(pairs, dtype=torch.float64) / pairs)
        angle = index[:, None] * (2 * math.pi / wavelength)
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    def forward(self, grid: list[int]) -> Tensor:
        """The encodings of a grid (gd, gh, gw)."""
        if tuple(grid) == self.grid:
            return self.table
        stacked = self.table.T.reshape(1, -1, *self.grid).float()
        return F.interpolate(stacked, size=tuple(grid), mode="trilinear").flatten(2)[0].T.to(self.table.dtype)


class Block(nn.Module):
    """Attention and an MLP, each on a residual branch behind a norm."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        hidden = int(width * ratio)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, n, e) to tokens."""
        tokens = tokens + self.attention(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, n, e) to tokens."""
        parts = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1))
        mixed: Tensor = self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))
        return mixed


def rotation(grid: list[int], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (n, width / 2) of the angles of a grid's tokens: a third of the pairs turns with each axis."""
    count = width // 6
    speeds = 10_000.0 ** -(torch.arange(count, dtype=torch.float64) / count)
    places = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in grid), indexing="ij")
    angles = torch.cat([place.flatten()[:, None] * speeds for place in places], dim=1)
    return angles.cos().float().to(device), angles.sin().float().to(device)


def turn(vectors: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Vectors (b, heads, n, x) with each pair of neighbouring channels turned."""
    (cosine, sine), (first, second) = angles, torch.unflatten(vectors, -1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return turned.flatten(-2).to(vectors.dtype)


class EvaBlock(nn.Module):
    """Attention with rotary positions and a gated MLP, each on a scaled residual branch behind a norm."""

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), EvaAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), GatedMLP(width, int(width * ratio))
        self.scale1, self.scale2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Tokens (b, n, e) to tokens."""
        tokens = tokens + self.scale1 * self.attention(self.norm1(tokens), angles)
        mixed: Tensor = tokens + self.scale2 * self.mlp(self.norm2(tokens))
        return mixed


class EvaAttention(nn.Module):
    """Multi-head self-attention with rotated queries and keys, and a norm before the last map."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Tokens (b, n, e) to tokens."""
        maps = (self.query, self.key, self.value)
        query, key, value = (part(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in maps)
        mixed = F.scaled_dot_product_attention(turn(query, angles), turn(key, angles), value)
        out: Tensor = self.out(self.norm(mixed.transpose(1, 2).flatten(2)))
        return out


class GatedMLP(nn.Module):
    """An MLP whose hidden channels are multiplied by gates, with a norm before the last map."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.hidden = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.norm, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, n, e) to tokens."""
        mapped: Tensor = self.out(self.norm(F.silu(self.gate(tokens)) * self.hidden(tokens)))
        return mapped
