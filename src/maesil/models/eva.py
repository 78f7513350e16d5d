"""EVA blocks, of which nnU-Net's Primus is made: gated MLPs, norms inside, scaled branches, rotary positions.

Fang et al., "EVA-02", 2023; Wald et al., "Primus", 2025 (arXiv:2503.01835).
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float, Int
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.models.attention import attend
from maesil.models.transformer import TransformerBlock
from maesil.shapes import Shape3

ROTATED = 6
"""Divisor of a head's width: a pair of channels turns with each of the three axes."""
TEMPERATURE = 10_000.0
"""Base of the speeds of rotation: pair i of n turns by 10,000^(-i/n) radians per patch, as in Primus."""
BRANCH_SCALE = 0.1
"""Initial factor of every channel of a residual branch, as in Primus."""


class Rotation(NamedTuple):
    """Angles of tokens, whose pairs of neighbouring channels are turned by them.

    Attributes:
        cosine: Cosines of the angles, one per pair of channels.
        sine: Sines of the angles.
    """

    cosine: Float[Tensor, "*b n pairs"]
    sine: Float[Tensor, "*b n pairs"]

    def of(self, tokens: Int[Tensor, "*b v"]) -> Rotation:
        """The angles of chosen tokens."""
        return Rotation(self.cosine[tokens], self.sine[tokens])

    def turn(self, vectors: Float[Tensor, "b heads n x"]) -> Float[Tensor, "b heads n x"]:
        """Vectors with each pair of channels turned; in the vectors' number type."""
        cosine, sine = (part if part.ndim == 2 else part.unsqueeze(1) for part in self)
        first, second = torch.unflatten(vectors, -1, (-1, 2)).unbind(-1)
        turned = torch.stack([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
        return turned.flatten(-2).to(vectors.dtype)


def rotation_of(shape: Shape3, head_width: int) -> Rotation:
    """Angles of all tokens of a grid, in token order: a third of a head's pairs turns with each axis.

    A token's angles are those of its place along the axes, whatever the size of the grid, as in Primus.

    Args:
        shape: Shape (gd, gh, gw) of the grid.
        head_width: Number of channels of a head; a multiple of 6.
    """
    count = head_width // ROTATED
    speeds = TEMPERATURE ** -(torch.arange(count, dtype=torch.float64) / count)
    places = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in shape), indexing="ij")
    angles = torch.cat([place.flatten()[:, None] * speeds for place in places], dim=1)
    return Rotation(angles.cos().float(), angles.sin().float())


@final
class Rotary(nn.Module):
    """The angles of a grid's tokens, which are not trained.

    Args:
        shape: Shape (gd, gh, gw) of the grid.
        head_width: Number of channels of a head; a multiple of 6.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, shape: Shape3, head_width: int) -> None:
        super().__init__()
        self.shape, self.head_width = shape, head_width
        rotation = rotation_of(shape, head_width)
        self.register_buffer("cosine", rotation.cosine, persistent=False)
        self.register_buffer("sine", rotation.sine, persistent=False)

    def forward(self, shape: Shape3 | None = None) -> Rotation:
        """The angles of all tokens, in token order.

        Args:
            shape: Shape of another grid; None: the one that the module was made for.
        """
        if shape is None or shape == self.shape:
            return Rotation(self.cosine, self.sine)
        other = rotation_of(shape, self.head_width)
        return Rotation(other.cosine.to(self.cosine.device), other.sine.to(self.sine.device))


@final
class EvaAttention(nn.Module):
    """Self-attention with rotated queries and keys, no bias on keys, and a norm before the last map.

    Args:
        width: Number of channels of a token.
        heads: Number of heads; the width of a head is a multiple of 6.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b n width"], rotation: Rotation) -> Float[Tensor, "b n width"]:
        """Every token attends to all tokens of its row."""
        query, key, value = (
            torch.unflatten(part(tokens), -1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = attend(rotation.turn(query), rotation.turn(key), value)
        out: Tensor = self.out(self.norm(mixed.transpose(1, 2).flatten(2)))
        return out


@final
class GatedMLP(nn.Module):
    """An MLP whose hidden channels are multiplied by gates, with a norm before the last map (SwiGLU).

    Args:
        width: Number of channels of a token.
        hidden: Number of hidden channels.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden)
        self.hidden = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Maps every token by itself."""
        mapped: Tensor = self.out(self.norm(F.silu(self.gate(tokens)) * self.hidden(tokens)))
        return mapped


@final
class EvaBlock(TransformerBlock):
    """A pre-norm block of EVA-02: attention and a gated MLP, each on a residual branch with a learned scale.

    Args:
        width: Number of channels of a token.
        heads: Number of attention heads.
        mlp_ratio: Hidden channels of the MLP over `width`.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = EvaAttention(width, heads)
        self.scale1 = nn.Parameter(torch.full((width,), BRANCH_SCALE))
        self.norm2 = nn.LayerNorm(width)
        self.mlp = GatedMLP(width, int(width * mlp_ratio))
        self.scale2 = nn.Parameter(torch.full((width,), BRANCH_SCALE))

    def forward(self, tokens: Float[Tensor, "b n width"], rotation: Rotation) -> Float[Tensor, "b n width"]:
        """The tokens after attention and MLP.

        Args:
            tokens: All tokens.
            rotation: Angles of these tokens.
        """
        return self._run(tokens, rotation)

    def _compute(self, tokens: Tensor, rotation: Rotation) -> Tensor:
        tokens = tokens + self.scale1 * self.attention(self.norm1(tokens), rotation)
        mixed: Tensor = tokens + self.scale2 * self.mlp(self.norm2(tokens))
        return mixed


def check_heads(width: int, heads: int) -> None:
    """Raises where heads cannot be rotated, and names the nearest number of heads that can."""
    fitting = [count for count in range(1, width // ROTATED + 1) if width % (count * ROTATED) == 0]
    if heads in fitting:
        return
    nearest = min(fitting, key=lambda count: (abs(count - heads), -count), default=None)
    raise ConfigError(
        f"rotary positions turn pairs of channels with three axes: {heads} heads of a width of {width} do not have "
        f"a multiple of {ROTATED} channels each",
        fix=f"--model.encoder-width: a multiple of {ROTATED}"
        if nearest is None
        else f"--model.encoder-heads {nearest}",
    )
