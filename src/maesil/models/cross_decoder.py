"""A decoder whose tokens attend to the visible tokens only (after Fu et al. 2024).

Rebuilt tokens do not attend to each other, so a step can rebuild a share of the masked tokens, and each costs the same.
The objective differs from the paper's; the option is `MAEConfig(decoder="cross")`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from jaxtyping import Float, Int
from torch import Tensor, nn

from maesil.grid import PatchGrid
from maesil.models.transformer import Attended, Block, PatchDecoder, Positions


@final
class CrossDecoder(PatchDecoder):
    """Blocks of cross-attention from mask tokens to the encoder's latent tokens; see `PatchDecoder`."""

    fused = False

    @staticmethod
    def attended(depth: int, grid: PatchGrid, visible: int, rebuilt: int) -> list[Attended]:
        """Rebuilt tokens attend to the visible ones in every block."""
        return [Attended(rebuilt, visible, visible)] * depth

    def __init__(
        self, latent_width: int, width: int, blocks: Iterable[Block], positions: Positions, voxels_per_patch: int
    ) -> None:
        super().__init__(latent_width, width, blocks, positions, voxels_per_patch)
        self.norm_memory = nn.LayerNorm(width)

    def forward(
        self,
        latent: Float[Tensor, "b v e"],
        visible: Int[Tensor, "b v"],
        wanted: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t k"]:
        """Decodes tokens, each independently of the others."""
        positions = self.positions()
        memory = self.embed(latent)
        memory = self.norm_memory(memory + positions[visible])
        chosen = positions.expand(len(latent), -1, -1) if wanted is None else positions[wanted]
        tokens = chosen + self.mask_token
        for block in self.blocks:
            tokens = block(tokens, memory)
        decoded: Tensor = tokens
        return decoded
