"""A vector-quantised autoencoder (van den Oord et al. 2017): the paper's third baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.errors import ConfigError
from maesil.masking import Masking
from maesil.models.autoencoder import Autoencoder, AutoencoderConfig
from maesil.models.codebook import Codebook
from maesil.models.contract import Latent

REVIVING = 0.5
"""Share of the training during which dead codes are replaced; afterwards the codes settle."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class VQVAEConfig(AutoencoderConfig):
    """An autoencoder whose latent vectors are codes from a codebook.

    Args:
        codes: Number of codes in the codebook.
        commitment: Weight of the loss that pulls latent vectors towards their codes.
        decay: Decay of the codebook's moving averages.
    """

    name: Literal["vqvae"] = "vqvae"
    codes: PositiveInt = 1024
    commitment: NonNegativeFloat = 0.25
    decay: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.decay < 1.0:
            raise ConfigError(f"decay is {self.decay}", fix="a share in (0, 1), such as 0.99")


@final
class VQVAE(Autoencoder):
    """An autoencoder with a codebook, squared error and the commitment loss.

    Args:
        config: Sizes of the body, its bottleneck and the codebook.
        masking: Choice of the tokens to mask where the model is scored on masked input.
    """

    config: VQVAEConfig

    def __init__(self, config: VQVAEConfig, masking: Masking) -> None:
        super().__init__(config, masking)
        self.codebook = Codebook(config.codes, config.latent_channels, commitment=config.commitment, decay=config.decay)
        elements = config.positions * config.latent_channels
        self.latent = Latent(elements, bits=config.positions * math.log2(config.codes))
        self._measures: dict[str, Tensor] = {}

    def loss(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        mask: Bool[Tensor, "b n"],
        generators: Sequence[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Mean squared error over every voxel, plus the commitment loss. See `Pretrainer.loss`."""
        latent = self.encoder(self.training_input(superpatch, mask))
        # New codes are drawn from the whole batch, so from one stream.
        stream = generators[0] if generators else None
        quantized, commitment = self.codebook(latent, stream, revive=progress < REVIVING)
        error: Tensor = self.error(self.decoder(quantized), superpatch)
        self._measures = {
            "error": error.detach(),
            "codebook_revived": self.codebook.revived,
            "codebook_usage": self.codebook.usage,
            "codebook_perplexity": self.codebook.perplexity,
        }
        loss: Tensor = error + commitment
        return loss

    def measures(self) -> Mapping[str, Tensor]:
        """Error, number of codes replaced in this step, share of codes used in the batch, and their perplexity."""
        return self._measures

    def rebuild(self, normalized: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Encodes, and decodes the nearest codes."""
        rebuilt: Tensor = self.decoder(self.codebook.nearest(self.encoder(normalized)))
        return rebuilt
