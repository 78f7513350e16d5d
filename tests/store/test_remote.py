"""A store behind an address: the same voxels, faults that pass, and faults that do not."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from http_server import Served, served
from maesil.errors import StoreError
from maesil.store import zarr3
from maesil.store.location import absolute, address_of, is_there, kvstore_of
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore

BOX = ((3, 5, 7), (24, 24, 24))


@pytest.fixture
def store(sources: Path, tmp_path: Path) -> Path:
    prepare([sources], tmp_path / "store", PrepareConfig(policy="native", chunk=16, shard=32, salt="x"), workers=0)
    return tmp_path / "store"


@pytest.fixture
def server(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name, value in {"READ_TRIES": 3, "FIRST_PAUSE_S": 0.01, "LONGEST_PAUSE_S": 0.02}.items():
        monkeypatch.setattr(zarr3, name, value)
    with served(store) as state:
        yield state


@pytest.mark.parametrize("slashes", ["//", "/"], ids=["as typed", "through a Path"])
def test_address_of__survives_a_path(slashes: str) -> None:
    path = Path(f"https:{slashes}host:80/a/b")
    assert address_of(path) == "https://host:80/a/b"
    assert absolute(path) == path
    assert is_there(path)
    assert address_of(Path("s3/store")) is None
    assert not is_there(Path("nowhere/store"))


def test_scan_store__the_same_behind_an_address(store: Path, server: Served) -> None:
    here, there = ScanStore(store), ScanStore(server.address)
    assert there.manifest == here.manifest
    np.testing.assert_array_equal(there.read("set-a", *BOX), here.read("set-a", *BOX))
    np.testing.assert_array_equal(there.occupancy("set-b"), here.occupancy("set-b"))
    sent = pickle.loads(pickle.dumps(there))
    np.testing.assert_array_equal(sent.read("set-c", *BOX), here.read("set-c", *BOX))


@pytest.mark.parametrize("fault", [503, 0], ids=["busy", "cut"])
def test_read__a_fault_that_passes_is_tried_again(store: Path, server: Served, fault: int) -> None:
    remote = ScanStore(server.address)
    server.faults[:] = [fault]
    np.testing.assert_array_equal(remote.read("set-a", *BOX), ScanStore(store).read("set-a", *BOX))
    assert not server.faults


@pytest.mark.parametrize("fault", [503, 0], ids=["busy", "cut"])
def test_read__a_fault_that_stays_is_told(server: Served, fault: int) -> None:
    remote = ScanStore(server.address)
    server.faults[:] = [fault] * 1000
    with pytest.raises(StoreError, match=r"cannot be reached.*3 tries") as raised:
        remote.read("set-a", *BOX)
    assert server.address in str(raised.value)
    assert "same command" in str(raised.value)


def test_scan_store__nobody_answers(server: Served) -> None:
    with pytest.raises(StoreError, match="cannot be reached"):
        ScanStore("http://127.0.0.1:1/store")
    with pytest.raises(StoreError, match="no store here"):
        ScanStore(f"{server.address}/elsewhere")


def test_read__a_server_without_ranges_is_told(server: Served) -> None:
    server.ranges = False
    with pytest.raises(StoreError, match="whole files") as raised:
        ScanStore(server.address)
    assert "copy the store to a disk" in str(raised.value)


def test_scan_store__in_a_bucket(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers as S3 does to a request for an object."""
    environment = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with served(store.parent.parent) as server:
        for name, value in {**environment, "AWS_ENDPOINT_URL": server.address}.items():
            monkeypatch.setenv(name, value)
        there = ScanStore(f"s3://{store.parent.name}/store")
        np.testing.assert_array_equal(there.read("set-a", *BOX), ScanStore(store).read("set-a", *BOX))
        server.faults[:] = [503]
        there.read("set-b", *BOX)
        assert not server.faults
        with pytest.raises(StoreError, match="no store here"):
            ScanStore(f"s3://{store.parent.name}/elsewhere")


@pytest.mark.parametrize("path", [Path("s3:/bucket/a/store"), "s3://bucket/a/store/"])
def test_kvstore_of__a_bucket(path: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    assert kvstore_of(path) == {"driver": "s3", "bucket": "bucket", "path": "a/store/"}
    assert kvstore_of("gs://bucket/store") == {"driver": "gcs", "bucket": "bucket", "path": "store/"}
    assert kvstore_of("https://host:80/ct") == {"driver": "http", "base_url": "https://host:80", "path": "/ct/"}
