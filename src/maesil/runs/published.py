"""Published weights: in the package, else in the cache, else at the release address, always with their checksums.

A folder of weights has `SHA256SUMS`, one line per file. `published.json` names each folder with the SHA-256 of its
`SHA256SUMS`, so that one digest in the package vouches for every byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import warnings
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import maesil
from maesil.ct.sample import cache_folder
from maesil.errors import CheckpointError, ConfigError, DownloadError, MaesilWarning
from maesil.files import quoted, sha256_of

SUMS = "SHA256SUMS"
ADDRESS_VARIABLE = "MAESIL_WEIGHTS_URL"
"""Environment variable with the address of the folder that holds the folders of weights."""
TIMEOUT_S = 60.0
LARGEST_BYTES = 30_000_000
"""Size of a file of published weights, at most."""

_RECORD = Path(__file__).with_name("published.json")
_PACKAGED = Path(maesil.__file__).parent / "weights"


@cache
def _record() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(_RECORD.read_text(encoding="utf-8"))
    return record


def published_names() -> tuple[str, ...]:
    """Names of the published weights."""
    return tuple(_record()["weights"])


def is_published(source: str) -> bool:
    """Whether published weights are meant: their name, unless a copy of them is here, which is as good.

    Raises:
        ConfigError: Something else of this name is here, so that either could be meant.
    """
    if source not in published_names():
        return False
    here = Path(source)
    if not here.exists():
        return True
    if sha256_of(here / SUMS) == _record()["weights"][source]:
        return False
    where = here.resolve()
    raise ConfigError(
        f"'{source}' is here, and it is the name of published weights, too: either could be meant",
        where=where,
        fix=f"give its whole path, {quoted(where)}; or, for the published weights, call from another folder",
    )


class PublishedNameWarning(MaesilWarning):
    """A folder is made under the name of published weights."""


def warn_of_published_name(folder: Path) -> None:
    """Warns if a new folder of the working folder gets the name of published weights, as either could then be meant."""
    if folder.exists() or folder.name not in published_names() or folder.absolute().parent != Path.cwd():
        return
    warnings.warn(
        f"the folder '{folder.name}' will have the name of published weights, and commands that take either cannot "
        f"tell which is meant: give them ./{folder.name}, or this folder another name",
        PublishedNameWarning,
        stacklevel=2,
    )


def published(name: str) -> Path:
    """The folder of published weights, verified; fetched into the cache if they are nowhere else.

    Args:
        name: One of `published_names`.

    Raises:
        CheckpointError: A file of the package differs from its checksum.
        DownloadError: They have to be fetched, and the address cannot be reached or serves other files.
    """
    digest: str = _record()["weights"][name]
    packaged, cached = _PACKAGED / name, cache_folder() / "weights" / name
    if packaged.is_dir():
        require_sums(packaged, digest)
        return packaged
    if cached.is_dir():
        try:
            require_sums(cached, digest)
            return cached
        except CheckpointError:  # of an earlier version, or damaged: fetched again
            shutil.rmtree(cached)
    _fetch(name, digest, cached)
    return cached


def require_sums(folder: Path, digest: str | None = None) -> None:
    """Compares the files of a folder with its checksums; a folder without `SHA256SUMS` passes.

    Args:
        folder: The folder of weights.
        digest: SHA-256 of its `SHA256SUMS`; None: any.

    Raises:
        CheckpointError: A file is missing or differs, or the checksums are not those that are known.
    """
    path = folder / SUMS
    if digest is None and not path.is_file():
        return
    if digest is not None and sha256_of(path) != digest:
        what = f"the weights are not the published ones: {SUMS} differs"
        raise CheckpointError(what, where=folder, fix="delete the folder, or install maesil again")
    for name, wanted in _lines(path.read_text(encoding="utf-8")).items():
        found = sha256_of(folder / name)
        if found != wanted:
            what = "is missing" if found is None else f"differs from its checksum ({found[:12]}, not {wanted[:12]})"
            raise CheckpointError(f"{name} {what}", where=folder, fix="copy or download the folder again")


def write_sums(folder: Path) -> str:
    """Writes the checksums of all files of a folder; returns the SHA-256 of `SHA256SUMS`."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    text = "".join(f"{sha256_of(path)}  {path.name}\n" for path in files)
    (folder / SUMS).write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(text: str) -> dict[str, str]:
    """Map from file name to SHA-256; only names of files in the folder itself are taken."""
    pairs = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return {PurePosixPath(name).name: digest for digest, name in pairs}


def _fetch(name: str, digest: str, folder: Path) -> None:
    address = os.environ.get(ADDRESS_VARIABLE) or _record()["address"]
    if not address:
        what = f"the weights '{name}' are not in this installation, and no release address is known"
        raise DownloadError(what, fix=f"give one, {ADDRESS_VARIABLE}=https://HOST/weights, or the folder itself")
    if not address.startswith(("https://", "http://")):
        raise ConfigError(f"{ADDRESS_VARIABLE} is not an address: {address}", fix="https://HOST/weights")
    source = f"{address.rstrip('/')}/{name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        draft = Path(temporary) / name
        draft.mkdir()
        sums = _downloaded(f"{source}/{SUMS}")
        _require_digest(sums, digest, f"{source}/{SUMS}")
        (draft / SUMS).write_bytes(sums)
        for file, wanted in _lines(sums.decode()).items():
            content = _downloaded(f"{source}/{file}")
            _require_digest(content, wanted, f"{source}/{file}")
            (draft / file).write_bytes(content)
        if not folder.exists():  # another process may have been faster
            draft.rename(folder)


def _downloaded(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read(LARGEST_BYTES + 1)
    except (OSError, urllib.error.URLError, ValueError, EOFError) as error:
        fix = f"check the network, give another address ({ADDRESS_VARIABLE}), or copy the folder and give its path"
        raise DownloadError(f"the weights could not be fetched: {error}", where=url, fix=fix) from error
    return content


def _require_digest(content: bytes, wanted: str, url: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        what = f"the file is not the published one: its sha256 starts with {found[:12]}, not {wanted[:12]}"
        raise DownloadError(what, where=url, fix=f"a proxy may have changed it; check {ADDRESS_VARIABLE}")
