"""Arrays without shards: the tissue map, which is one small chunk, and anything else that zarr-python reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import zstd

from maesil.store.files import Files
from maesil.store.location import address_of

Array = npt.NDArray[Any]


def open_plain(files: Files, store: Path, name: str, metadata: Mapping[str, Any]) -> Any:
    """An array with NumPy's indexing: read at once if it is one chunk as written here, else opened by zarr.

    Args:
        files: Files of the store.
        store: Path of the store.
        name: Folder of the array below it.
        metadata: Content of the array's zarr.json.

    Raises:
        ValueError: zarr-python cannot read the array.
    """
    codecs = [codec["name"] for codec in metadata["codecs"]]
    one = metadata["chunk_grid"]["configuration"]["chunk_shape"] == metadata["shape"]
    keys = metadata["chunk_key_encoding"]["name"]
    if one and codecs in (["bytes"], ["bytes", "zstd"]) and metadata["data_type"] == "uint8" and keys == "default":
        return _one_chunk(files, name, metadata, packed="zstd" in codecs)
    return zarr.open_array(address_of(store) or store, path=name, mode="r")


def _one_chunk(files: Files, name: str, metadata: Mapping[str, Any], *, packed: bool) -> Array:
    shape = tuple(metadata["shape"])
    try:
        raw = files.whole(f"{name}/c/" + "/".join("0" for _ in shape))
    except FileNotFoundError:  # a chunk that holds only the fill value is not stored
        return np.full(shape, metadata["fill_value"], dtype=np.uint8)
    try:
        return np.frombuffer(zstd.decompress(raw) if packed else raw, dtype=np.uint8).reshape(shape)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
