"""A plain autoencoder (Hinton and Salakhutdinov 2006): the paper's first baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.masking import Masking
from maesil.models.autoencoder import Autoencoder, AutoencoderConfig
from maesil.models.contract import Latent


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AEConfig(AutoencoderConfig):
    """An autoencoder whose latent is a vector of unconstrained numbers."""

    name: Literal["ae"] = "ae"


@final
class AE(Autoencoder):
    """An autoencoder with squared error.

    Args:
        config: Sizes of the body and its bottleneck.
        masking: Choice of the tokens to mask where the model is scored on masked input.
    """

    config: AEConfig

    def __init__(self, config: AEConfig, masking: Masking) -> None:
        super().__init__(config, masking)
        self.latent = Latent(config.positions * config.latent_channels)

    def loss(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        mask: Bool[Tensor, "b n"],
        generators: Sequence[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Mean squared error over every voxel. See `Pretrainer.loss`."""
        return self.error(self.rebuild(self.training_input(superpatch, mask)), superpatch)

    def rebuild(self, normalized: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Encodes, then decodes."""
        rebuilt: Tensor = self.decoder(self.encoder(normalized))
        return rebuilt
