"""Our own reading and writing of shards against zarr-python's, and their bounds."""

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
from maesil.store.files import LocalFiles, Part
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.recent import Recent
from maesil.store.resident import Resident
from maesil.store.scanstore import ScanStore
from maesil.store.settings import Codec
from maesil.store.shards import Indices, ShardedArray, layout_of, read_metadata

SHAPE = (70, 33, 96)
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
def array(truth: np.ndarray, request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardedArray, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    write(folder / "scan", truth, request.param)
    files = LocalFiles(folder)
    layout = layout_of(read_metadata(files, "scan/0"))
    assert layout is not None
    indices: Indices = Recent(8)
    return ShardedArray(files, "scan/0", layout, indices), zarr.open_array(folder / "scan" / "0", mode="r")


@given(intervals)
def test_sharded_array__reads_what_zarr_reads(
    truth: np.ndarray, array: tuple[ShardedArray, Any], spans: tuple[tuple[int, int], ...]
) -> None:
    ours, theirs = array
    box = tuple(slice(first, min(first + count, size)) for (first, count), size in zip(spans, SHAPE, strict=True))
    found = ours[(box[0], box[1], box[2])]
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, truth[box])
    np.testing.assert_array_equal(found, theirs[box])


@pytest.mark.parametrize("codec", ["lz4", "zstd", "none"])
def test_sharded_array__reads_shards_that_zarr_wrote(truth: np.ndarray, tmp_path: Path, codec: Codec) -> None:
    ScanWriter.create(tmp_path / "scan", SHAPE, 16, 32, codec)
    zarr.open_array(tmp_path / "scan" / "0", mode="r+")[:] = truth
    files = LocalFiles(tmp_path)
    layout = layout_of(read_metadata(files, "scan/0"))
    assert layout is not None
    ours = ShardedArray(files, "scan/0", layout, Recent(8))
    np.testing.assert_array_equal(ours[tuple(slice(0, size) for size in SHAPE)], truth)


def test_write_shard__makes_the_files_that_zarr_makes(truth: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "ours", truth)
    ScanWriter.create(tmp_path / "zarrs", SHAPE, 16, 32)
    zarr.open_array(tmp_path / "zarrs" / "0", mode="r+")[:] = truth
    ours, theirs = (
        {str(file.relative_to(folder)): file.stat().st_size for file in (folder / "0").rglob("*")}
        for folder in (tmp_path / "ours", tmp_path / "zarrs")
    )
    assert ours == theirs
    assert "0/c/0/0/0" in ours
    assert "0/c/0/0/1" not in ours, "a shard that is fill alone has no file"


def test_layout_of__another_layout_is_left_to_zarr(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "plain", shape=SHAPE, chunks=(16, 16, 16), dtype=np.int16)
    assert layout_of(read_metadata(LocalFiles(tmp_path), "plain")) is None


@pytest.mark.parametrize("keep", [0.5, 0.02], ids=["chunks", "index"])
def test_read__a_file_that_is_cut_off_is_told(sources: Path, tmp_path: Path, keep: float) -> None:
    config = PrepareConfig(policy="native", chunk=16, shard=32, salt="x")
    prepare([sources], tmp_path / "store", config, workers=0)
    shard = tmp_path / "store" / "scans" / "set-a" / "0" / "c" / "0" / "0" / "0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(StoreError, match="'set-a' cannot be read"):
        ScanStore(tmp_path / "store").read("set-a", (0, 0, 0), (32, 32, 32))


def test_read__a_damaged_index_is_told(sources: Path, tmp_path: Path) -> None:
    prepare([sources], tmp_path / "store", PrepareConfig(policy="native", chunk=16, shard=32, salt="x"), workers=0)
    shard = tmp_path / "store" / "scans" / "set-a" / "0" / "c" / "0" / "0" / "0"
    damaged = bytearray(shard.read_bytes())
    damaged[-20] ^= 1  # the last chunk's place
    shard.write_bytes(bytes(damaged))
    with pytest.raises(StoreError, match=r"index of .* is damaged"):
        ScanStore(tmp_path / "store").read("set-a", (0, 0, 0), (32, 32, 32))


@pytest.mark.parametrize("cname", ["lz4", "zstd", "blosclz"])
@pytest.mark.parametrize("shuffle", ["bitshuffle", "shuffle", "noshuffle"])
def test_sharded_array__any_blosc_chunk_is_read(tmp_path: Path, truth: np.ndarray, cname: Any, shuffle: Any) -> None:
    written = zarr.create_array(
        tmp_path / "scan",
        shape=SHAPE,
        chunks=(16, 16, 16),
        shards=(32, 32, 32),
        dtype=np.int16,
        fill_value=-1024,
        compressors=BloscCodec(cname=cname, clevel=3, shuffle=shuffle, typesize=2),
    )
    written[:] = truth
    files = LocalFiles(tmp_path)
    layout = layout_of(read_metadata(files, "scan"))
    assert layout is not None
    whole = tuple(slice(0, size) for size in SHAPE)
    np.testing.assert_array_equal(ShardedArray(files, "scan", layout, Recent(8))[whole], truth)


def test_local_files__keep_few_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maesil.store.files.OPEN_FILES", 3)
    for number in range(20):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 4)
    files = LocalFiles(tmp_path)
    before = len(list(Path("/dev/fd").iterdir()))
    assert [next(iter(files.parts([Part(str(n), 1, 2), Part(str(n), -1, 1)])))[0] for n in range(20)] == list(range(20))
    assert len(list(Path("/dev/fd").iterdir())) <= before + 3


def _fill(resident: Resident) -> None:
    resident.get("b", lambda: np.full((2, 3, 4), 7, dtype=np.int16))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_resident__a_forked_process_fills_it_for_all() -> None:
    resident = Resident({"a": (4, 4, 4), "b": (2, 3, 4)})
    worker = multiprocessing.get_context("fork").Process(target=_fill, args=(resident,))
    worker.start()
    worker.join(30)
    assert worker.exitcode == 0
    found = resident.get("b", lambda: pytest.fail("it was decoded twice"))
    np.testing.assert_array_equal(found, np.full((2, 3, 4), 7))
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_recent__keeps_what_was_used_last() -> None:
    recent: Recent[int, int] = Recent(2)
    made: list[int] = []
    for key in (1, 2, 1, 3, 1, 2):
        recent.get(key, lambda key=key: made.append(key) or key)
    assert made == [1, 2, 3, 2]
    assert len(recent) == 2
