"""maesil: masked-autoencoder pre-training on unlabeled 3D CT."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maesil.encoder.load import load

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Imports `load` on first use, so that `import maesil` stays fast."""
    if name == "load":
        return import_module("maesil.encoder.load").load
    raise AttributeError(f"module 'maesil' has no attribute '{name}'")
