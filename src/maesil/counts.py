"""Counts of things, in words."""

from __future__ import annotations


def count_of(number: int, thing: str, things: str | None = None) -> str:
    """A count with its noun: "1 scan", "1,200 scans".

    Args:
        number: Count of the things.
        thing: Noun, and what follows it, for exactly one.
        things: The same for any other count; None: `thing` with an "s".
    """
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"
