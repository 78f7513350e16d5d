"""Models trained by reconstruction, behind one contract."""

from __future__ import annotations

from collections.abc import Callable

from maesil.catalog import Catalog
from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models.contract import Pretrainer, Reconstruction
from maesil.models.interpolation import Interpolation
from maesil.models.kriging import Kriging
from maesil.models.mae import MAEConfig, MaskedAutoencoder
from maesil.models.mean import MeanFill

__all__ = ["UNTRAINED", "MAEConfig", "MaskedAutoencoder", "Pretrainer", "Reconstruction", "make_model"]

UNTRAINED: Catalog[Callable[[PatchGrid, Masking], Pretrainer]] = Catalog(
    "model", {"kriging": Kriging, "interpolation": Interpolation, "mean": MeanFill}
)
"""Models that learn nothing; they stand in every table."""


def make_model(config: MAEConfig, masking: Masking) -> Pretrainer:
    """The pretrainer that a configuration describes, freshly initialised."""
    return MaskedAutoencoder(config, masking)
