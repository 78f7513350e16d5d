"""Where a store is: a folder, or an address that fsspec reads (http, https, s3, gs)."""

from __future__ import annotations

import re
from pathlib import Path

# A `Path` drops one of the two slashes; settings and flags hold stores as paths.
_ADDRESS = re.compile(r"^(https?|s3|gs):/{1,2}(?=[^/])")

EXTRAS = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
"""Map from protocol to the package that fsspec uses for it; the extra `remote` installs all of them."""


def address_of(store: Path | str) -> str | None:
    """The address of a remote store; None for a folder.

    Example:
        >>> address_of(Path("https://example.org/ct/store"))
        'https://example.org/ct/store'
        >>> address_of(Path("stores/ct")) is None
        True
    """
    text = Path(store).as_posix()
    found = _ADDRESS.match(text)
    return None if found is None else f"{found[1]}://{text[found.end() :]}"


def absolute(store: Path) -> Path:
    """The store as an absolute path; an address is returned unchanged."""
    return store if address_of(store) else store.resolve()


def is_there(store: Path) -> bool:
    """Whether a folder exists; an address counts as existing, as it is only checked when it is read."""
    return address_of(store) is not None or store.exists()
