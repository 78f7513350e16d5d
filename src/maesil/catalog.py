"""Readable name -> class: one dictionary per kind of part, with an error that names the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from maesil.errors import UnknownNameError

T = TypeVar("T")

NONE = "none"
"""What stands in place of a run or an encoder to start from: random weights."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, or None if nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


def hint(name: str, known: Iterable[str]) -> str:
    """The beginning of a fix, "did you mean 'x'? "; empty if no known name is close to `name`."""
    guess = nearest(name, known)
    return f"did you mean '{guess}'? " if guess else ""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not in a catalogue; it names the nearest one."""
    names = sorted(known)
    return UnknownNameError(f"unknown {kind} '{name}'", fix=f"{hint(name, names)}known: {', '.join(names)}")


def listing(purposes: Mapping[str, str]) -> str:
    """Names and what each is for, one a line, as helps show them."""
    width = max(map(len, purposes)) + 3
    return "\n".join(f"  {name:<{width}}{purpose}" for name, purpose in purposes.items())


class Catalog(Mapping[str, T]):
    """An immutable mapping from readable names to parts.

    Args:
        kind: Singular noun for the parts, used in errors ("masking").
        parts: Map from name to class or function.
    """

    def __init__(self, kind: str, parts: Mapping[str, T]) -> None:
        self.kind = kind
        self._parts = dict(parts)

    def __getitem__(self, name: str) -> T:
        try:
            return self._parts[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._parts) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __repr__(self) -> str:
        return f"Catalog({self.kind}: {', '.join(self._parts)})"
