"""Imports of optional packages."""

from __future__ import annotations

from importlib import import_module
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
        what = f"this needs the package '{module.split('.')[0]}', which cannot be imported: {error}"
        raise MissingExtraError(what, fix=installing(extra)) from error
