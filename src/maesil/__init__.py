"""maesil: masked-autoencoder pre-training on unlabeled 3D CT."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maesil.ct.readers.options import ReadOptions
    from maesil.encoder.load import load

__version__ = "0.2.0"
__all__ = ["ReadOptions", "__version__", "load"]

_HOMES = {"load": "maesil.encoder.load", "ReadOptions": "maesil.ct.readers.options"}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that `import maesil` stays fast."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'maesil' has no attribute '{name}'")
