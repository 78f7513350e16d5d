"""How long-running work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Function called with the number of items done, the number of all items, and the name of the last one."""
