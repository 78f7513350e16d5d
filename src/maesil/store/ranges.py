"""A check that a web server sends parts of files."""

from __future__ import annotations

from urllib.error import URLError
from urllib.request import Request, urlopen

from maesil.errors import StoreError


def require_ranges(address: str) -> None:
    """Checks that a web server answers a request for a byte of a file with that byte alone.

    With a server that sends whole files, every superpatch would cost its shards' full size, in silence.

    Args:
        address: Address of a file; only http(s) is checked.

    Raises:
        StoreError: The server sends the whole file.
    """
    if not address.startswith("http"):
        return
    try:
        with urlopen(Request(address, headers={"Range": "bytes=0-0"}), timeout=60) as answer:
            sends_parts = answer.status == 206
    except (URLError, TimeoutError):
        return  # whatever it is, the reads that follow are tried several times, and name it
    if not sends_parts:
        fix = "use a server that supports range requests, or copy the store to a disk"
        raise StoreError("the server sends whole files instead of parts", where=address, fix=fix)
