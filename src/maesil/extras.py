"""Imports of optional packages."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from maesil.errors import MissingExtraError


def installing(extra: str) -> str:
    """How to install an extra: from a checkout, as no package index has maesil."""
    return f"in the checkout of maesil: pip install -e '.[{extra}]'"


def optional(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional package.

    Raises:
        MissingExtraError: It is not installed; the message names the extra that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise _missing(module, extra, f"cannot be imported: {error}") from error


def require(module: str, extra: str) -> None:
    """Raises MissingExtraError if an optional package is not installed, without importing it."""
    if module not in sys.modules and find_spec(module) is None:
        raise _missing(module, extra, "is not installed")


def _missing(module: str, extra: str, why: str) -> MissingExtraError:
    return MissingExtraError(f"this needs the package '{module.split('.')[0]}', which {why}", fix=installing(extra))
