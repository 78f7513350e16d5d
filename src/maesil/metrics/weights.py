"""The weights of LPIPS: finds them, downloads them, and verifies that they are the published ones.

Backbones are torchvision's, downloaded from its own address into torch.hub's cache. The v0.1 linear heads come with the
package `torchmetrics`, which PyTorch Lightning installs; it is not imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor

from maesil.catalog import Catalog
from maesil.errors import DownloadError, WeightsError

FOLDER_VARIABLE = "MAESIL_LPIPS_WEIGHTS"
SILENCE_S = 30.0
"""Seconds without an answer after which a download gives up; torch.hub would wait forever."""


@dataclass(frozen=True)
class Part:
    """One state dict.

    Attributes:
        files: Names of its file; the first one found is read.
        prefix: Prefix of the keys that count; others in the same file (a classifier) are dropped.
        digest: SHA-256 over these keys, shapes and float32 values: the same for every file that holds them.
        url: Address at torchvision; the name ends with the first digits of the file's own hash.
        size_mb: Size of the file at that address, in MB.
    """

    files: tuple[str, ...]
    prefix: str
    digest: str
    url: str | None = None
    size_mb: int | None = None


PARTS: Catalog[Part] = Catalog(
    "set of LPIPS weights",
    {
        "alex backbone": Part(
            files=("alexnet_features.pth", "alexnet-owt-7be5be79.pth"),
            prefix="features.",
            digest="901ec1eaad23cd186cbd86eb1db1b64ea4a633870c46df1564dbc510498640b4",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            size_mb=233,
        ),
        "alex heads": Part(
            files=("lpips_lin_v0.1_alex.pth", "alex.pth"),
            prefix="lin",
            digest="58efa761f72d708c70f700cc1f341a55542c44cf45e9ab5521d0d0e29d8db023",
        ),
        "squeeze backbone": Part(
            files=("squeezenet1_1_features.pth", "squeezenet1_1-b8a52dc0.pth"),
            prefix="features.",
            digest="db2b095e0481dd5c182621525da9635a9893664167e17b1ceaa35f8a86d966c6",
            url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
            size_mb=5,
        ),
        "squeeze heads": Part(
            files=("lpips_lin_v0.1_squeeze.pth", "squeeze.pth"),
            prefix="lin",
            digest="acb0a2064b007926420ca242899be1c60c019d19f0f5f16a8a8d498b393ff284",
        ),
    },
)


def folders(folder: Path | None = None) -> list[Path]:
    """The folders that are searched for weights.

    Args:
        folder: Only folder to search, if given. Otherwise the folder named by `MAESIL_LPIPS_WEIGHTS`, torch.hub's cache
            and the installed `torchmetrics` are searched.
    """
    if folder is not None:
        return [folder]
    named = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(named)] if named else []), Path(torch.hub.get_dir()) / "checkpoints", *_torchmetrics()]


def find_weights(part: str, folder: Path | None = None) -> Path | None:
    """The file that holds a part of `PARTS`, not yet verified; None if there is none."""
    places = folders(folder)
    if folder is not None and part.endswith("heads"):
        places = [folder, *_torchmetrics()]
    candidates = (place / name for place in places for name in PARTS[part].files)
    return next((path for path in candidates if path.is_file()), None)


def read_weights(part: str, folder: Path | None = None) -> dict[str, Tensor]:
    """A verified state dict on the CPU.

    Raises:
        WeightsError: The file is missing, unreadable, or its values are not the published ones.
    """
    path = find_weights(part, folder)
    if path is None:
        places = ", ".join(map(str, folders(folder)))
        raise WeightsError(f"no file with the LPIPS {part}", where=places, fix=_fix(part))
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"the LPIPS {part} cannot be read", where=path, fix=_fix(part)) from error
    return verify(part, tensors, where=path)


def verify(part: str, tensors: Mapping[str, Tensor], where: Path | None = None) -> dict[str, Tensor]:
    """The tensors that count, their keys without "features.", if they are the published ones.

    Args:
        part: Name in `PARTS`.
        tensors: State dict of the part, with or without the prefix "features.".
        where: File that they come from, for the error message.

    Raises:
        WeightsError: The values differ.
    """
    wanted = PARTS[part]
    bare = {key.removeprefix("features."): value for key, value in _counting(tensors, wanted.prefix).items()}
    if digest(bare) != wanted.digest:
        raise WeightsError(
            f"the LPIPS {part} is not the published one: its SHA-256 differs", where=where, fix=_fix(part)
        )
    return bare


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over sorted keys, shapes and little-endian float32 values."""
    total = hashlib.sha256()
    for key in sorted(tensors):
        values = tensors[key].detach().cpu().contiguous().numpy().astype("<f4")
        total.update(f"{key} {values.shape}\n".encode())
        total.update(values.tobytes())
    return total.hexdigest()


def fetch_backbone(net: str = "alex", folder: Path | None = None) -> Path:
    """Downloads a backbone from torchvision's own address, and checks its hash and its values.

    Args:
        net: Backbone network, "alex" (233 MB) or "squeeze" (5 MB).
        folder: Folder to save it in; None: torch.hub's cache, which torchvision shares.

    Raises:
        DownloadError: The address cannot be reached, or the file is damaged.
        WeightsError: The values are not the published ones.
    """
    part = f"{net} backbone"
    url = PARTS[part].url
    assert url is not None
    place = folder or Path(torch.hub.get_dir()) / "checkpoints"
    try:
        with _gives_up():
            tensors = torch.hub.load_state_dict_from_url(
                url, model_dir=str(place), map_location="cpu", check_hash=True, weights_only=True
            )
    except (OSError, RuntimeError) as error:
        raise DownloadError(
            f"the LPIPS {part} could not be fetched: {error}",
            where=url,
            fix=f"fetch the file on another machine and set {FOLDER_VARIABLE} to its folder",
        ) from error
    path = place / url.rsplit("/", 1)[1]
    verify(part, tensors, where=path)
    return path


def to_fetch(net: str = "alex") -> str | None:
    """The download that `fetch_backbone` needs, in words; None if the file is here."""
    part = f"{net} backbone"
    if find_weights(part) is not None:
        return None
    url, size_mb = PARTS[part].url, PARTS[part].size_mb
    assert url is not None
    return f"the LPIPS {part} ({size_mb} MB, from {urlsplit(url).hostname})"


@contextmanager
def _gives_up() -> Iterator[None]:
    """Ends a wait for the network after a while: torch.hub passes no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _fix(part: str) -> str:
    if PARTS[part].url is None:
        return f"install torchmetrics, which ships it, or set {FOLDER_VARIABLE} to a folder with {PARTS[part].files[0]}"
    net = part.split()[0]
    file = PARTS[part].files[0]
    return f"fetch it once: maesil doctor --fetch-lpips {net}; or set {FOLDER_VARIABLE} to a folder with {file}"


def _counting(tensors: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    chosen = {key: value for key, value in tensors.items() if key.startswith(prefix)}
    return chosen or tensors


def _torchmetrics() -> list[Path]:
    # Found without an import: importing torchmetrics fails if the installed torchvision does not match torch.
    found = importlib.util.find_spec("torchmetrics")
    roots = found.submodule_search_locations if found is not None else None
    return [Path(root) / "functional" / "image" / "lpips_models" for root in roots or ()]
