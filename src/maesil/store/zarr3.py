"""A store's groups and arrays in Zarr v3: their metadata, and tensorstore's handles of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from maesil.cores import available_cores
from maesil.errors import StoreError
from maesil.shapes import Shape3
from maesil.store.location import kvstore_of

READ_TRIES = 5
"""Number of times that a remote read is tried before it fails."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""Waits between the tries: each one is about twice the previous one."""

_NO_SPECIFICATION = re.compile(r"^[A-Z_]+: | \[(?:tensorstore_spec|source locations)=.*", re.DOTALL)
_UNREACHABLE = ("ABORTED:", "UNAVAILABLE:", "DEADLINE_EXCEEDED:")
_threads_of: int | None = None


def reading_context(cache_gib: float = 0.0, threads: int | None = None) -> ts.Context:
    """Resources that all reads of a store share.

    Args:
        cache_gib: Size of the cache of decoded chunks; the chunks that were used last stay in it.
        threads: Number of threads that decode; None: one per core of this process.
    """
    retries = {"max_retries": READ_TRIES, "initial_delay": f"{FIRST_PAUSE_S}s", "max_delay": f"{LONGEST_PAUSE_S}s"}
    return _context(
        {
            "cache_pool": {"total_bytes_limit": int(cache_gib * 2**30)},
            "data_copy_concurrency": {"limit": threads or available_cores()},
            **{f"{service}_request_retries": retries for service in ("http", "s3", "gcs")},
        }
    )


def writing_context() -> ts.Context:
    """Resources of a writer: one thread, since `prepare` runs one process per core."""
    return _context(
        {
            "cache_pool": {"total_bytes_limit": 0},
            "data_copy_concurrency": {"limit": 1},
            "file_io_sync": False,  # `write_scan` flushes all files of a scan at its end
        }
    )


def _context(resources: dict[str, Any]) -> ts.Context:
    global _threads_of
    check_process()
    _threads_of = os.getpid()
    return ts.Context(resources)


def check_process() -> None:
    """Raises StoreError in a process that was forked from one that had used a store: its reads would never end."""
    if _threads_of not in (None, os.getpid()):
        raise StoreError(
            "a store cannot be read in a forked process, because its reading threads stayed in the parent",
            fix="read in one process, as the loader of `maesil` does, or start processes with the method 'spawn'",
        )


def array_metadata(
    shape: Shape3,
    chunk: Shape3,
    dtype: npt.DTypeLike,
    fill: int,
    compressor: Mapping[str, Any] | None,
    *,
    shard: Shape3 | None = None,
    axes: Sequence[str] | None = ("z", "y", "x"),
) -> dict[str, Any]:
    """The zarr.json of an array.

    Args:
        shape: Shape of the array in voxels.
        chunk: Shape in voxels of the smallest readable block.
        dtype: Type of the voxels.
        fill: Value of voxels that are not stored.
        compressor: Codec of a chunk; None: not compressed.
        shard: Shape in voxels of a file of several chunks; None: every chunk is a file.
        axes: Names of the axes; None: without names.
    """
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    codecs: list[Any] = [{"name": "bytes"} if np.dtype(dtype).itemsize == 1 else little]
    codecs += [compressor] if compressor else []
    if shard is not None:
        settings = {
            "chunk_shape": list(chunk),
            "codecs": codecs,
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": settings}]
    return {
        "shape": list(shape),
        "data_type": np.dtype(dtype).name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard or chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
        **({"dimension_names": list(axes)} if axes else {}),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def create_array(folder: Path, metadata: Mapping[str, Any], context: ts.Context) -> ts.TensorStore:
    """Writes the metadata of an empty array; returns a handle to write its voxels with."""
    write_metadata(folder, metadata)
    return open_array(kvstore_of(folder), "", context)


def write_box(array: ts.TensorStore, start: Sequence[int], voxels: npt.NDArray[Any]) -> None:
    """Writes voxels into an array, from the voxel `start` on.

    Raises:
        OSError: They cannot be written, for example because the disk is full.
    """
    box = tuple(slice(at, at + size) for at, size in zip(start, voxels.shape, strict=True))
    try:
        array[box].write(voxels).result()
    except ValueError as error:
        raise OSError(reason(error)) from error


def write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Writes the metadata of a group."""
    write_metadata(folder, {"attributes": attributes, "zarr_format": 3, "node_type": "group"})


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a zarr.json, formatted as zarr-python does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def open_array(kvstore: Mapping[str, Any], folder: str, context: ts.Context) -> ts.TensorStore:
    """A handle of an array.

    Args:
        kvstore: Specification of the store, from `kvstore_of`.
        folder: Folder of the array below the store.
        context: Resources to read with.

    Raises:
        ValueError: The array is missing or damaged, or the store cannot be reached.
    """
    check_process()
    below = f"{folder}/" if folder else ""
    spec = {
        "driver": "zarr3",
        "kvstore": {**kvstore, "path": f"{kvstore['path']}{below}"},
        "recheck_cached_metadata": False,
        "recheck_cached_data": False,
    }
    return ts.open(spec, open=True, context=context).result()


def read_file(kvstore: Mapping[str, Any], name: str, context: ts.Context) -> bytes | None:
    """The bytes of a file of the store; None if there is none.

    Raises:
        ValueError: It cannot be read, or the store cannot be reached.
    """
    found = ts.KvStore.open(dict(kvstore), context=context).result().read(name).result()
    return found.value if found.state == "value" else None


def reason(error: Exception) -> str:
    """What happened, without tensorstore's error code and specification."""
    return _NO_SPECIFICATION.sub("", str(error)) or type(error).__name__


def read_error(error: Exception, what: str, where: Path | str, fix: str) -> StoreError:
    """The error of a read that failed: of the network, or `what` and why, with `fix`."""
    if str(error).startswith(_UNREACHABLE):
        what = f"the store cannot be reached: {reason(error)} ({READ_TRIES} tries)"
        fix = "check the network and the server, then run the same command again; training resumes where it stopped"
        return StoreError(what, where=where, fix=fix)
    return StoreError(f"{what}: {reason(error)}", where=where, fix=fix)
