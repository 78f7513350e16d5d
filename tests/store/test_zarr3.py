"""Arrays of a store against zarr-python, which shares no code with the reader and the writer; damaged files."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec

from maesil.errors import StoreError
from maesil.store.arrays import ScanWriter
from maesil.store.location import kvstore_of
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore
from maesil.store.settings import Codec
from maesil.store.zarr3 import open_array, reading_context, reason, write_group

SHAPE = (70, 33, 96)
SMALL = PrepareConfig(policy="native", chunk=16, shard=32, salt="x")
intervals = st.tuples(*[st.tuples(st.integers(0, size - 1), st.integers(1, size)) for size in SHAPE])


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    voxels = np.random.default_rng(2).integers(-1024, 3072, SHAPE).astype(np.int16)
    voxels[:, :, 32:64] = -1024  # whole chunks and a whole shard that are not stored
    voxels[:16, :16, :16] = -1024
    return voxels


def write(folder: Path, voxels: np.ndarray, codec: Codec = "lz4") -> None:
    writer = ScanWriter.create(folder, SHAPE, 16, 32, codec)
    for row in range(0, SHAPE[1], 32):
        for plane in range(0, SHAPE[0], 32):
            writer.write((plane, row), voxels[plane : plane + 32, row : row + 32])


@pytest.fixture(scope="module", params=["lz4", "zstd", "none"])
def arrays(truth: np.ndarray, request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    write(folder / "scan", truth, request.param)
    ours = open_array(kvstore_of(folder), "scan/0", reading_context())
    return ours, zarr.open_array(folder / "scan" / "0", mode="r")


@given(intervals)
def test_scan_writer__zarr_python_reads_what_it_writes(
    truth: np.ndarray, arrays: tuple[Any, Any], spans: tuple[tuple[int, int], ...]
) -> None:
    ours, theirs = arrays
    box = tuple(slice(first, min(first + count, size)) for (first, count), size in zip(spans, SHAPE, strict=True))
    found = ours[box].read().result()
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, truth[box])
    np.testing.assert_array_equal(found, theirs[box])


@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_scan_writer__makes_the_files_that_zarr_python_makes(truth: np.ndarray, tmp_path: Path, codec: Codec) -> None:
    write(tmp_path / "ours", truth, codec)
    ScanWriter.create(tmp_path / "zarrs", SHAPE, 16, 32, codec)
    zarr.open_array(tmp_path / "zarrs" / "0", mode="r+")[:] = truth
    ours, theirs = (
        {str(file.relative_to(folder)): file.read_bytes() for file in (folder / "0").rglob("*") if file.is_file()}
        for folder in (tmp_path / "ours", tmp_path / "zarrs")
    )
    assert {name: len(content) for name, content in ours.items()} == {name: len(data) for name, data in theirs.items()}
    assert ours["0/zarr.json"] == theirs["0/zarr.json"]
    assert "0/c/0/0/0" in ours
    assert "0/c/0/0/1" not in ours, "a shard that is fill alone has no file"
    np.testing.assert_array_equal(
        open_array(kvstore_of(tmp_path), "zarrs/0", reading_context())[...].read().result(), truth
    )


def test_write_group__is_what_zarr_python_writes(tmp_path: Path) -> None:
    attributes = {"maesil": {"format": 1, "names": ["a", "ä"], "share": 0.25}}
    write_group(tmp_path / "ours", attributes)
    zarr.open_group(tmp_path / "theirs", mode="w", zarr_format=3).attrs.put(attributes)
    assert (tmp_path / "ours" / "zarr.json").read_bytes() == (tmp_path / "theirs" / "zarr.json").read_bytes()
    assert dict(zarr.open_group(tmp_path / "ours", mode="r").attrs) == attributes


@pytest.mark.parametrize("cname", ["lz4", "zstd", "blosclz"])
@pytest.mark.parametrize("shuffle", ["bitshuffle", "shuffle", "noshuffle"])
def test_open_array__any_blosc_chunk_is_read(tmp_path: Path, truth: np.ndarray, cname: Any, shuffle: Any) -> None:
    compressor = BloscCodec(cname=cname, clevel=3, shuffle=shuffle, typesize=2)
    edges: dict[str, Any] = {"chunks": (16, 16, 16), "shards": (32, 32, 32)}
    zarr.create_array(
        tmp_path / "scan", shape=SHAPE, dtype=np.int16, fill_value=-1024, compressors=compressor, **edges
    )[:] = truth
    array = open_array(kvstore_of(tmp_path), "scan", reading_context())
    np.testing.assert_array_equal(array.read().result(), truth)


@pytest.fixture
def shard(sources: Path, tmp_path: Path) -> Path:
    """The first file of the voxels of a scan 'set-a', in a store at `store`."""
    prepare([sources], tmp_path / "store", SMALL, workers=0)
    return tmp_path / "store" / "scans" / "set-a" / "0" / "c" / "0" / "0" / "0"


def fails(tmp_path: Path) -> str:
    """The one-line error of reading the damaged shard."""
    with pytest.raises(StoreError, match="'set-a' cannot be read") as raised:
        ScanStore(tmp_path / "store").read("set-a", (0, 0, 0), (32, 32, 32))
    lines = str(raised.value).splitlines()
    assert "tensorstore" not in lines[0]
    assert "prepare" in str(raised.value)
    return lines[0]


@pytest.mark.parametrize("keep", [0.5, 0.02, 0.0], ids=["chunks", "index", "nothing"])
def test_read__a_file_that_is_cut_off(shard: Path, tmp_path: Path, keep: float) -> None:
    whole = shard.read_bytes()
    shard.write_bytes(whole[: int(len(whole) * keep)])
    assert "0/c/0/0/0" in fails(tmp_path)


def test_read__a_damaged_index(shard: Path, tmp_path: Path) -> None:
    damaged = bytearray(shard.read_bytes())
    damaged[-20] ^= 1  # the place of the last chunk
    shard.write_bytes(bytes(damaged))
    assert "Digest mismatch" in fails(tmp_path)


def test_read__a_damaged_chunk(shard: Path, tmp_path: Path) -> None:
    damaged = bytearray(shard.read_bytes())
    damaged[4:8] = b"\xff\xff\xff\xff"  # the size of the first chunk
    shard.write_bytes(bytes(damaged))
    assert "Invalid blosc-compressed data" in fails(tmp_path)


def test_reason__leaves_out_the_code_and_the_specification() -> None:
    text = 'NOT_FOUND: Error opening driver: it does not exist [tensorstore_spec=\'{"driver":"zarr3"}\']'
    assert reason(ValueError(text)) == "Error opening driver: it does not exist"


def _read_in_a_fork(store: ScanStore, answers: Any) -> None:
    for attempt in (store, store.path):
        try:
            fresh = attempt if isinstance(attempt, ScanStore) else ScanStore(attempt)
            fresh.read("set-a", (0, 0, 0), (8, 8, 8))
            answers.put("read")
        except StoreError as error:
            answers.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_read__a_forked_process_is_refused_and_does_not_hang(shard: Path, tmp_path: Path) -> None:
    store = ScanStore(tmp_path / "store")
    store.read("set-a", (0, 0, 0), (8, 8, 8))
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    worker = fork.Process(target=_read_in_a_fork, args=(store, answers))
    worker.start()
    first, second = answers.get(timeout=60), answers.get(timeout=60)
    worker.join(60)
    assert "forked process" in first
    assert "spawn" in second
