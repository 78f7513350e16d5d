"""Masking strategies: which tokens of a superpatch the encoder does not see."""

from __future__ import annotations

from maesil.catalog import Catalog
from maesil.masking.axis import AxisMasking
from maesil.masking.base import Masking
from maesil.masking.dual import DualMasking
from maesil.masking.plane import PlaneMasking
from maesil.masking.shared_plane import SharedPlaneMasking
from maesil.masking.uniform import UniformMasking

MASKINGS: Catalog[type[Masking]] = Catalog(
    "masking",
    {
        "uniform": UniformMasking,
        "plane": PlaneMasking,
        "axis": AxisMasking,
        "dual": DualMasking,
        "shared_plane": SharedPlaneMasking,
    },
)

__all__ = [
    "MASKINGS",
    "AxisMasking",
    "DualMasking",
    "Masking",
    "PlaneMasking",
    "SharedPlaneMasking",
    "UniformMasking",
]
