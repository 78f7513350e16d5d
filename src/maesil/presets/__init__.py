"""Full configurations by name. A preset is a function: adapt what it returns with flags, or `dataclasses.replace`.

The functions themselves are in `maesil.presets.ours`, which is imported on first use: their names are known without
torch, so that a wrong one is told at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from maesil.catalog import Catalog

if TYPE_CHECKING:
    from maesil.config import RunConfig
    from maesil.presets.ours import base, demo, paper, paper_union, primus, small

__all__ = ["DEMO_SPACING_MM", "PRESETS", "base", "demo", "paper", "paper_union", "primus", "small"]

DEMO_SPACING_MM = 1.5
"""Voxel size to which the demo's scan is resampled."""


def _made(name: str) -> Any:
    return resolve_name(f"maesil.presets.ours:{name}")()


PRESETS: Catalog[Callable[[], RunConfig]] = Catalog(
    "preset", {name: partial(_made, name) for name in ("paper", "paper_union", "base", "primus", "small", "demo")}
)


def __getattr__(name: str) -> Any:
    """Imports a preset's function on first use."""
    if name in PRESETS:
        return resolve_name(f"maesil.presets.ours:{name}")
    raise AttributeError(f"module 'maesil.presets' has no attribute '{name}'")
