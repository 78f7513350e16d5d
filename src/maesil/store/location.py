"""Where a store is: a folder, or an address (http, https, s3, gs)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# A `Path` drops one of the two slashes; settings and flags hold stores as paths.
_ADDRESS = re.compile(r"^(https?|s3|gs):/{1,2}(?=[^/])")


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


def kvstore_of(store: Path | str) -> dict[str, Any]:
    """Specification of the store's files for tensorstore.

    S3 takes its region and endpoint from AWS_REGION and AWS_ENDPOINT_URL, and credentials from the usual places, as
    Google Cloud Storage does.
    """
    address = address_of(store)
    if address is None:
        return {"driver": "file", "path": f"{absolute(Path(store)).as_posix()}/"}  # it refuses a path with ".."
    parts = urlsplit(address)
    path = f"{parts.path.strip('/')}/".lstrip("/")
    if parts.scheme == "gs":
        return {"driver": "gcs", "bucket": parts.netloc, "path": path}
    if parts.scheme == "s3":
        found = {"aws_region": os.environ.get("AWS_REGION"), "endpoint": os.environ.get("AWS_ENDPOINT_URL")}
        given: dict[str, Any] = {name: value for name, value in found.items() if value}
        if "AWS_ACCESS_KEY_ID" in os.environ:
            given["aws_credentials"] = {"type": "environment"}  # by default it looks for files, too, and reports each
        return {"driver": "s3", "bucket": parts.netloc, "path": path, **given}
    return {"driver": "http", "base_url": f"{parts.scheme}://{parts.netloc}", "path": f"/{path}"}
