"""Counts of things, in words."""

from __future__ import annotations

from collections.abc import Sequence


def count_of(number: int, thing: str, things: str | None = None) -> str:
    """A count with its noun: "1 scan", "1,200 scans".

    Args:
        number: Count of the things.
        thing: Noun, and what follows it, for exactly one.
        things: The same for any other count; None: `thing` with an "s".
    """
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def some_of(names: Sequence[str], most: int = 20, whole: str | None = None, *, separator: str = ", ") -> str:
    """The first names of a list, and how many more there are: "a, b and 7 more".

    Args:
        names: The names.
        most: Number of names that are told at most.
        whole: Where a reader finds all of them, told if there are more; None: nowhere.
        separator: Text between two names.
    """
    if len(names) <= most:
        return separator.join(names)
    return f"{separator.join(names[:most])} and {len(names) - most:,} more" + (f" ({whole})" if whole else "")
