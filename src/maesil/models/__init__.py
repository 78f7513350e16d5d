"""Models trained by reconstruction, behind one contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maesil.catalog import Catalog
from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models.ae import AE, AEConfig
from maesil.models.contract import Latent, ModelConfig, Pretrainer, Reconstruction, Reconstructor
from maesil.models.interpolation import Interpolation
from maesil.models.kriging import Kriging
from maesil.models.mae import MAEConfig, MaskedAutoencoder
from maesil.models.mean import MeanFill
from maesil.models.slice_ceiling import SliceCeiling
from maesil.models.slice_mae import SliceMAE, SliceMAEConfig
from maesil.models.unet import UNet, UNetConfig
from maesil.models.vae import VAE, VAEConfig
from maesil.models.vqvae import VQVAE, VQVAEConfig

__all__ = [
    "CEILINGS",
    "MODELS",
    "UNTRAINED",
    "AEConfig",
    "Latent",
    "MAEConfig",
    "MaskedAutoencoder",
    "ModelConfig",
    "Pretrainer",
    "Reconstruction",
    "Reconstructor",
    "SliceMAEConfig",
    "UNetConfig",
    "VAEConfig",
    "VQVAEConfig",
    "make_model",
]

UNTRAINED: Catalog[Callable[[PatchGrid, Masking], Reconstructor]] = Catalog(
    "model", {"kriging": Kriging, "interpolation": Interpolation, "mean": MeanFill}
)
"""Models without training; every table has them as rows."""

CEILINGS: Catalog[Callable[[PatchGrid, Masking], Reconstructor]] = Catalog("ceiling", {"slice_ceiling": SliceCeiling})
"""Upper references for kinds of models: they know the truth of some masked voxels, and are never ranked."""

MODELS: Catalog[tuple[type[Any], Callable[[Any, Masking], Pretrainer]]] = Catalog(
    "model",
    {
        "maesil": (MAEConfig, MaskedAutoencoder),
        "ae": (AEConfig, AE),
        "vae": (VAEConfig, VAE),
        "vqvae": (VQVAEConfig, VQVAE),
        "slice_mae": (SliceMAEConfig, SliceMAE),
        "unet": (UNetConfig, UNet),
    },
)
"""Models that are trained: name to the classes of their configuration and network."""


def make_model(config: ModelConfig, masking: Masking) -> Pretrainer:
    """Makes the pretrainer that a configuration describes, with initial weights."""
    _, network = MODELS[config.name]
    return network(config, masking)
