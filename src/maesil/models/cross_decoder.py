"""A decoder that asks the visible tokens, and nothing else, about every token it rebuilds (after Fu et al. 2024).

Rebuilt tokens do not see each other, so each costs the same however many there are: a share of the masked tokens can be
rebuilt per step. It is another objective than the paper's, and an option: `MAEConfig(decoder="cross")`.
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float, Int
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.models.attention import attend
from maesil.models.transformer import PatchDecoder, Positions, Recomputable, make_mlp


@final
class CrossAttention(nn.Module):
    """Multi-head attention from tokens to a memory.

    Args:
        width: Channels of a token and of the memory.
        heads: Heads; divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "b t k"], memory: Float[Tensor, "b v k"]) -> Float[Tensor, "b t k"]:
        """Every token attends to the whole memory of its row."""
        query, key, value = (
            one.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for one in (self.query(tokens), self.key(memory), self.value(memory))
        )
        mixed: Tensor = self.out(attend(query, key, value).transpose(1, 2).flatten(2))
        return mixed


@final
class CrossBlock(Recomputable):
    """A pre-norm block: attention to the memory, then an MLP, each on a residual branch.

    Args:
        width: Channels of a token and of the memory.
        heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP over `width`.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = make_mlp(width, mlp_ratio)

    def compute(self, tokens: Float[Tensor, "b t k"], memory: Float[Tensor, "b v k"]) -> Float[Tensor, "b t k"]:
        """Tokens that have asked the memory."""
        tokens = tokens + self.attention(self.norm1(tokens), memory)
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


@final
class CrossDecoder(PatchDecoder):
    """Blocks of cross-attention from mask tokens to the encoder's latent tokens.

    Args:
        latent_width: e, the encoder's.
        width: k.
        depth: Blocks.
        heads: Attention heads.
        mlp_ratio: Hidden over embedding width in the blocks' MLPs.
        positions: Encodings of the grid at `width`.
        voxels_per_patch: p.
    """

    def __init__(
        self,
        latent_width: int,
        width: int,
        depth: int,
        heads: int,
        *,
        mlp_ratio: float,
        positions: Positions,
        voxels_per_patch: int,
    ) -> None:
        blocks = (CrossBlock(width, heads, mlp_ratio) for _ in range(depth))
        super().__init__(latent_width, width, blocks, positions, voxels_per_patch)
        self.norm_memory = nn.LayerNorm(width)

    def forward(
        self,
        latent: Float[Tensor, "b v e"],
        visible: Int[Tensor, "b v"],
        wanted: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t k"]:
        """Decoded tokens that `wanted` names, in its order; all in token order where it is None."""
        positions = self.positions()
        memory = self.embed(latent)
        memory = self.norm_memory(memory + positions[visible])
        asked = positions.expand(len(latent), -1, -1) if wanted is None else positions[wanted]
        tokens = asked + self.mask_token
        for block in self.blocks:
            tokens = block(tokens, memory)
        decoded: Tensor = tokens
        return decoded
