"""Models trained by reconstruction, behind one contract."""

from __future__ import annotations

from maesil.masking import Masking
from maesil.models.contract import Pretrainer, Reconstruction
from maesil.models.mae import MAEConfig, MaskedAutoencoder

__all__ = ["MAEConfig", "MaskedAutoencoder", "Pretrainer", "Reconstruction", "make_model"]


def make_model(config: MAEConfig, masking: Masking) -> Pretrainer:
    """The pretrainer that a configuration describes, freshly initialised."""
    return MaskedAutoencoder(config, masking)
