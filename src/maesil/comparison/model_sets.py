"""Named comparisons: which models each contains, and what it is meant to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maesil.catalog import Catalog
from maesil.comparison.spec import Spec, parse_models
from maesil.config import RunConfig
from maesil.models import CEILINGS, UNTRAINED, MAEConfig, VQVAEConfig
from maesil.presets.baselines import baseline


@dataclass(frozen=True)
class ModelSet:
    """The models of a comparison.

    Attributes:
        title: Title of its page.
        specs: The models, ours first.
    """

    title: str
    specs: tuple[Spec, ...]

    @property
    def ours(self) -> str:
        """The entry that the others are tested against: the first trained model."""
        return next((spec.label for spec in self.specs if spec.trained), self.specs[0].label)


def paper(preset: RunConfig) -> ModelSet:
    """Table II: our model, others trained on its task, the paper's autoencoders, the slice MAE, untrained baselines.

    `unet` and the corrupted autoencoder are trained to fill masked voxels, like ours. The slice MAE is included twice:
    under our masks, so that it sees exactly the voxels that ours sees, and under its own.
    """
    models = (
        "maesil", "unet", "ae:corrupt=true", shared_slices(preset), "slice_mae",
        "ae", "vae", "vqvae", *UNTRAINED, *CEILINGS,
    )  # fmt: skip
    return ModelSet("MAESIL and its baselines", parse_models(models))


def shared_slices(preset: RunConfig) -> str:
    """The slice MAE under our masks, as a word for `parse_models`."""
    return f"slice_mae:masks=shared:patch={[1, *preset.model.patch[1:]]}"


def slices(preset: RunConfig) -> ModelSet:
    """2D against 3D under the same masks; also meant for plane-wise masks (`maesil compare --masking.name plane`).

    Under dual masks, most masked voxels lie in slices with nothing visible, about which a 2D model knows nothing: the
    ceiling is about the best it could reach.
    """
    models = ("maesil", shared_slices(preset), *UNTRAINED, *CEILINGS)
    return ModelSet("2D against 3D under the same masks", parse_models(models))


def bottlenecks(preset: RunConfig) -> ModelSet:
    """Each autoencoder in three sizes, as the paper does not report its bottlenecks; and what a referee might ask for.

    That is a VAE that fails because its KL weight, a million times the default, empties its latent, and an autoencoder
    trained on masked input.

    The largest latent has as many numbers as our encoder's output, the smallest 1/64 of them. A VQ-VAE is sized by its
    positions: one level more or less means an eighth or eight times as many codes.
    """
    width = ours_width(preset)
    body = baseline("vqvae", preset).model
    assert isinstance(body, VQVAEConfig)
    shorter, longer = list(body.channels[:-1]), [*body.channels, body.channels[-1]]
    small, medium = max(1, width // 64), max(1, width // 8)
    models = [
        "maesil",
        *(f"{name}{size}" for name in ("ae", "vae") for size in ("", f":latent_channels={medium}")),
        *(f"{name}:latent_channels={small}" for name in ("ae", "vae")),
        "vae:kl_per_voxel=250000",
        "vqvae",
        f"vqvae:channels={shorter}:latent_channels={medium}",
        f"vqvae:channels={longer}",
        "ae:corrupt=true",
        *UNTRAINED,
    ]
    return ModelSet("MAESIL and its baselines, three bottlenecks each", parse_models(models))


PLAIN: dict[str, object] = {
    "model.head": "patch",
    "model.visible_head": False,
    "model.fusion.network": "cells",  # a fusion on voxels must have a width
    "model.fusion.width": 0,
}
"""Settings of the paper's network, beside any preset."""


def ablation_masking(preset: RunConfig) -> ModelSet:
    """Variants of our model: masking with equal visible tokens, the literal 87.5 %, patches of 16, other targets.

    All of them are the paper's network, without what a preset adds to it: some targets contradict it.
    """
    settings: dict[str, dict[str, object]] = {
        "dual 75 %": {"masking.name": "dual"},
        "uniform 75 %": {"masking.name": "uniform", "masking.mask_ratio": 0.75},
        "plane 75 %": {"masking.name": "plane", "masking.plane_ratio": 0.75},
        "axis 75 %": {"masking.name": "axis", "masking.axis_ratio": 0.75},
        "dual 87.5 %": {"masking.name": "dual", "masking.plane_ratio": 0.75, "masking.axis_ratio": 0.5},
        "patch 16": {"model.patch": [16, 16, 16]},
        "normalised targets": {"model.normalize_targets": True},
        "visible patches count 0.1": {"model.visible_weight": 0.1},
    }
    trained = (Spec(label, "maesil", {**PLAIN, **values}) for label, values in settings.items())
    return ModelSet("Ablation: masking, patch, target", (*trained, *parse_models(UNTRAINED)))


def ours_width(preset: RunConfig) -> int:
    """Latent channels of an autoencoder with as many latent numbers as our encoder's output, at 1/8 resolution."""
    ours = preset.model
    assert isinstance(ours, MAEConfig)
    tokens = preset.masking.visible_count(ours.grid) * ours.encoder_width
    positions = ours.superpatch[0] * ours.superpatch[1] * ours.superpatch[2] // 512
    return max(1, round(tokens / positions))


MODEL_SETS: Catalog[Callable[[RunConfig], ModelSet]] = Catalog(
    "comparison",
    {"paper-table": paper, "slices": slices, "bottlenecks": bottlenecks, "ablation-masking": ablation_masking},
)
