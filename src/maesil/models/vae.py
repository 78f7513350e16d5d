"""A variational autoencoder (Kingma and Welling 2013): the paper's second baseline, which failed there (11.91 dB)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.errors import ConfigError
from maesil.masking import Masking
from maesil.models.autoencoder import Autoencoder, AutoencoderConfig
from maesil.models.contract import Latent

LOG_VARIANCE_RANGE = (-14.0, 8.0)
"""Range that log-variances are clipped to."""
ACTIVE_NATS = 0.01
"""Divergence in nats above which a latent number counts as used."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class VAEConfig(AutoencoderConfig):
    """An autoencoder whose latent is drawn from a Gaussian, with a penalty on its divergence from the standard normal.

    Both terms of the loss are per voxel, so a weight has the same effect at every size of superpatch. With weight w the
    loss equals, up to a factor and a constant, the negative evidence lower bound with a Gaussian likelihood of variance
    w / 2 per voxel in units of `input_std` squared: a deviation of 0.35 `input_std` at 0.25, of 0.71 at 1.

    Args:
        kl_per_voxel: Weight of the KL divergence, in nats per voxel; the mean squared error has weight 1. At 250,000
            the latent carries no information and every superpatch is rebuilt as the mean, as in the paper's figures.
        kl_warmup: Share of the training over which the weight rises from zero.
    """

    name: Literal["vae"] = "vae"
    kl_per_voxel: NonNegativeFloat = 0.25
    kl_warmup: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.kl_warmup <= 1.0:
            raise ConfigError(f"kl_warmup is {self.kl_warmup}", fix="give a share of the training in [0, 1]")

    def kl_weight_at(self, progress: float) -> float:
        """Weight of the divergence after a share `progress` of the training."""
        rising = progress / self.kl_warmup if self.kl_warmup else 1.0
        return self.kl_per_voxel * min(1.0, rising)


def renew_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Converts the settings of earlier runs, whose `kl_weight` was the weight of a whole superpatch's divergence.

    The loss stays the same: 1e-6, the default then, is 0.262144 per voxel of 64^3 superpatches, and 2.097152 per voxel
    of 128^3 ones. Settings with both names, or without a number, are returned unchanged, and validated later.
    """
    weight, superpatch = settings.get("kl_weight"), settings.get("superpatch", VAEConfig.superpatch)
    numbers = (weight, *superpatch) if isinstance(superpatch, list | tuple) else (None,)
    if "kl_per_voxel" in settings or not all(isinstance(number, int | float) for number in numbers):
        return settings
    kept = {name: value for name, value in settings.items() if name != "kl_weight"}
    return {**kept, "kl_per_voxel": float(f"{weight * math.prod(superpatch):.9g}")}  # 0.262144, as one would type it


@final
class VAE(Autoencoder):
    """An autoencoder with squared error and a weighted KL divergence; it reconstructs from the latent's mean.

    Args:
        config: Sizes of the body and its bottleneck, and the weight.
        masking: Choice of the tokens to mask where the model is scored on masked input.
    """

    config: VAEConfig

    def __init__(self, config: VAEConfig, masking: Masking) -> None:
        super().__init__(config, masking, heads=2)
        self.latent = Latent(config.positions * config.latent_channels)
        self._measures: dict[str, Tensor] = {}

    def loss(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        mask: Bool[Tensor, "b n"],
        generators: Sequence[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Mean squared error over every voxel, plus the weighted KL divergence per voxel. See `Pretrainer.loss`."""
        shown = self.training_input(superpatch, mask)
        mean, log_variance = self.posterior(shown)
        streams: Sequence[torch.Generator | None] = generators or [None] * len(mean)
        noise = torch.stack([_noise(one, stream) for one, stream in zip(mean, streams, strict=True)])
        drawn = mean + noise * (0.5 * log_variance).exp()
        error = self.error(self.decoder(drawn.to(shown.dtype)), superpatch)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
        kl = divergence.flatten(1).sum(dim=1).mean()
        active = (divergence.detach().mean(dim=0) > ACTIVE_NATS).float().mean()
        self._measures = {"error": error.detach(), "kl_nats": kl.detach(), "latent_active_share": active}
        return error + self.config.kl_weight_at(progress) * kl / superpatch[0].numel()

    def measures(self) -> Mapping[str, Tensor]:
        """Error, KL divergence in nats per superpatch, and share of latent numbers in use."""
        return self._measures

    def rebuild(self, normalized: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Encodes, and decodes the mean of the latent."""
        mean, _ = self.posterior(normalized)
        rebuilt: Tensor = self.decoder(mean.to(normalized.dtype))
        return rebuilt

    def posterior(
        self, normalized: Float[Tensor, "b c d h w"]
    ) -> tuple[Float[Tensor, "b l x y z"], Float[Tensor, "b l x y z"]]:
        """Mean and log-variance of the latent, float32."""
        mean, log_variance = self.encoder(normalized).float().chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)


def _noise(like: Float[Tensor, "l x y z"], generator: torch.Generator | None) -> Float[Tensor, "l x y z"]:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
