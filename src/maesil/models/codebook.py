"""A codebook whose codes follow the vectors they encode (MONAI's moving averages), and which replaces dead codes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, final

import torch
import torch.distributed as distributed
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maesil.errors import MissingExtraError

DEAD = 0.25
"""Share of an even count below which a code's running count makes it dead."""


@final
class Codebook(nn.Module):
    """Replaces each latent vector by the nearest code.

    Args:
        codes: Number of codes.
        width: Length of a code.
        commitment: Weight of the loss that pulls latent vectors towards their codes.
        decay: Decay of the moving averages.
    """

    started: Tensor

    def __init__(self, codes: int, width: int, *, commitment: float, decay: float) -> None:
        super().__init__()
        self.quantizer = _monai_quantizer(codes, width, commitment, decay)
        # The averages start as if every code had been used once: MONAI's zeros would move the codes far away.
        self.quantizer.ema_cluster_size.fill_(1.0)
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.revived = torch.zeros(())
        self.usage = torch.zeros(())
        self.perplexity = torch.zeros(())

    def forward(
        self, latent: Float[Tensor, "b l x y z"], generator: torch.Generator | None = None, *, revive: bool = True
    ) -> tuple[Float[Tensor, "b l x y z"], Float[Tensor, ""]]:
        """Replaces latent vectors by codes, with a straight-through gradient, and computes the commitment loss.

        In training mode the codes follow the latent vectors, and dead codes are replaced by latent vectors.

        Args:
            latent: Vectors along axis 1.
            generator: Random stream that chooses the vectors; None: PyTorch's global one.
            revive: Whether to replace dead codes. Where vectors are unevenly distributed, some codes are always rare
                enough to count as dead: revival does not end by itself, and moves codes that others have adapted to.
        """
        with self._exactly(latent):
            exact = latent.float()
            if self.training:
                self._revive(exact, generator, revive=revive)
            quantized, loss, indices = self.quantizer(exact)
        self._count(indices)
        return quantized.to(latent.dtype), loss

    @torch.no_grad()
    def nearest(self, latent: Float[Tensor, "b l x y z"]) -> Float[Tensor, "b l x y z"]:
        """Replaces latent vectors by their nearest codes; changes nothing, even in training mode."""
        with self._exactly(latent):
            _, _, indices = self.quantizer.quantize(latent)
            codes: Tensor = self.quantizer.embed(indices)
        return codes.to(latent.dtype)

    def _exactly(self, latent: Tensor) -> AbstractContextManager[object]:
        """Keeps distances and averages in float32, even in a half-precision model: counts need the digits."""
        self.quantizer.float()
        return torch.autocast(latent.device.type, enabled=False)

    @torch.no_grad()
    def _revive(self, latent: Float[Tensor, "b l x y z"], generator: torch.Generator | None, *, revive: bool) -> None:
        """Replaces dead codes by vectors of this batch; in the first step all codes, whatever `revive` is."""
        vectors = latent.movedim(1, -1).flatten(0, -2)
        codes, even = self.quantizer.num_embeddings, self._even_count(len(vectors))
        dead = (self.quantizer.ema_cluster_size < DEAD * even) & revive | ~self.started
        drawn = torch.multinomial(self._misfit(vectors), codes, replacement=True, generator=generator)
        chosen = vectors[drawn]
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(chosen, src=0)
        self._replace(dead, chosen, even)
        self.revived = dead.float().sum()
        self.started.fill_(True)

    def _misfit(self, vectors: Float[Tensor, "v l"]) -> Float[Tensor, " v"]:
        """Weight of each vector in the draw: its squared distance from the nearest code; equal in the first step.

        Two fifths of a scan are air, which one code describes: with equal weights, many new codes would be air, too.
        """
        distance = torch.cdist(vectors, self.quantizer.embedding.weight).amin(dim=1)
        weight = torch.where(self.started, distance.square().nan_to_num(posinf=0.0), 1.0)
        return weight.clamp_min(torch.finfo(weight.dtype).tiny)

    def _even_count(self, vectors: int) -> float:
        world = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        even: float = vectors * world / self.quantizer.num_embeddings
        return even

    def _replace(self, dead: Bool[Tensor, " codes"], chosen: Float[Tensor, "codes l"], even: float) -> None:
        quantizer, column = self.quantizer, dead[:, None]
        quantizer.embedding.weight.copy_(torch.where(column, chosen, quantizer.embedding.weight))
        quantizer.ema_w.copy_(torch.where(column, chosen * even, quantizer.ema_w))
        quantizer.ema_cluster_size.copy_(torch.where(dead, even, quantizer.ema_cluster_size))

    @torch.no_grad()
    def _count(self, indices: Int[Tensor, "b x y z"]) -> None:
        """Measures the share of codes used in this batch, and the perplexity of their distribution."""
        counts = torch.bincount(indices.flatten(), minlength=self.quantizer.num_embeddings).float()
        share = counts / counts.sum()
        self.usage = (counts > 0).float().mean()
        self.perplexity = torch.exp(-torch.xlogy(share, share).sum())


def _monai_quantizer(codes: int, width: int, commitment: float, decay: float) -> Any:
    try:
        from monai.networks.layers.vector_quantizer import EMAQuantizer
    except ImportError as error:
        raise MissingExtraError("the codebook is MONAI's", fix="pip install monai") from error
    return EMAQuantizer(
        spatial_dims=3, num_embeddings=codes, embedding_dim=width, commitment_cost=commitment, decay=decay
    )
