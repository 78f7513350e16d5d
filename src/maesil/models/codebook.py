"""A codebook that follows what it encodes: exponential moving averages (MONAI's), and new life for dead codes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, final

import torch
import torch.distributed as distributed
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from maesil.errors import MissingExtraError

DEAD = 0.25
"""A code is dead where its running count is below this share of an even one."""


@final
class Codebook(nn.Module):
    """Replaces each latent vector by the nearest code.

    Args:
        codes: Entries.
        width: Numbers per entry.
        commitment: Weight of the pull of latent vectors towards their codes.
        decay: Of the moving averages.
    """

    started: Tensor

    def __init__(self, codes: int, width: int, *, commitment: float, decay: float) -> None:
        super().__init__()
        self.quantizer = _monai_quantizer(codes, width, commitment, decay)
        # The averages begin as if every code had been met once: MONAI's zeros would throw the codes far away.
        self.quantizer.ema_cluster_size.fill_(1.0)
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.revived = torch.zeros(())
        self.usage = torch.zeros(())
        self.perplexity = torch.zeros(())

    def forward(
        self, latent: Float[Tensor, "b l x y z"], generator: torch.Generator | None = None, *, revive: bool = True
    ) -> tuple[Float[Tensor, "b l x y z"], Float[Tensor, ""]]:
        """Codes in place of latent vectors, with a straight-through gradient; and the commitment loss.

        In training mode the codes follow the latent vectors, and dead ones become some of these.

        Args:
            latent: Vectors along axis 1.
            generator: Draws the vectors that dead codes become.
            revive: Whether dead codes do. Among vectors that are met unevenly some codes are rare, so always dead by
                their count: revival does not end by itself, and takes codes away that others have settled around.
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
        """Codes in place of latent vectors; learns nothing, in training mode neither."""
        with self._exactly(latent):
            _, _, indices = self.quantizer.quantize(latent)
            codes: Tensor = self.quantizer.embed(indices)
        return codes.to(latent.dtype)

    def _exactly(self, latent: Tensor) -> AbstractContextManager[object]:
        """Distances and averages in float32, in a half-precision model too: counts need their digits."""
        self.quantizer.float()
        return torch.autocast(latent.device.type, enabled=False)

    @torch.no_grad()
    def _revive(self, latent: Float[Tensor, "b l x y z"], generator: torch.Generator | None, *, revive: bool) -> None:
        """Dead codes become vectors of this batch; in the first step all do, whatever `revive` says."""
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
        """How likely each vector is to be drawn: by its squared distance from the nearest code; at first all alike.

        Air is two fifths of a scan and one code's: drawn alike, most vectors would say what is said already.
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
        """Share of codes met in this batch, and its perplexity: how many evenly met codes would say as much."""
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
