"""A plain autoencoder (Hinton and Salakhutdinov 2006): the paper's first baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.masking import Masking
from maesil.models.autoencoder import Autoencoder, AutoencoderConfig
from maesil.models.contract import Latent


@dataclass(frozen=True)
class AEConfig(AutoencoderConfig):
    """An autoencoder whose latent numbers are free."""

    name: Literal["ae"] = "ae"


@final
class AE(Autoencoder):
    """Squared error through a narrow latent.

    Args:
        config: The body and its bottleneck.
        masking: Which tokens are hidden where it is scored on masked input.
    """

    def __init__(self, config: AEConfig, masking: Masking) -> None:
        super().__init__(config, masking)
        self.config = config
        self.latent = Latent(config.positions * config.latent_channels)

    def loss(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        mask: Bool[Tensor, "b n"],
        generators: Sequence[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Mean squared error over every voxel."""
        return self.error(self.rebuild(self.training_input(superpatch, mask)), superpatch)

    def rebuild(self, normalized: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Encoder, then decoder."""
        rebuilt: Tensor = self.decoder(self.encoder(normalized))
        return rebuilt
