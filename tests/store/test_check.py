"""Files that are lost after they were written: readers, `prepare` and `maesil store` notice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from http_server import served
from maesil.cli import main
from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.errors import StoreError
from maesil.sampling.dataset import ResumableLoader, SuperpatchDataset
from maesil.sampling.plan import Order, Place
from maesil.screen import prepare_text
from maesil.store.check import check_store
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore

CONFIG = PrepareConfig(policy="native", chunk=16, shard=32, salt="x", labels=True)
SHAPE = (40, 48, 72)
Hashes = Callable[[Path], dict[str, str]]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two scans with labels; from the 64th column on there is only air, which has no file."""
    (tmp_path / "set").mkdir()
    for seed, name in enumerate("ab"):
        voxels = np.random.default_rng(seed).integers(-900, 900, SHAPE).astype(np.int16)
        voxels[:, :, 64:] = -1024
        geometry = Geometry.from_parts(SHAPE, (2.0, 2.0, 2.0))
        write_nifti(tmp_path / "set" / f"{name}.nii.gz", Volume(voxels, geometry))
        labels = np.zeros(SHAPE, dtype=np.uint8)
        labels[-8:, -8:, -8:] = 1
        labels[:8, :8, :8] = 1
        write_nifti(tmp_path / "set" / f"{name}_seg.nii.gz", Volume(labels, geometry))
    return tmp_path / "set"


@pytest.fixture
def store(scans: Path, tmp_path: Path) -> Path:
    prepare([scans], tmp_path / "store", CONFIG, workers=0)
    return tmp_path / "store"


def array(store: Path, name: str = "0") -> Path:
    return store / "scans" / "set-a" / name


def first_file(array: Path) -> Path:
    return min(path for path in (array / "c").rglob("*") if path.is_file())


def test_read__air_without_a_file_is_air(store: Path) -> None:
    opened = ScanStore(store)
    whole = opened.volume("set-a").array
    air = np.argwhere((whole == -1024).all(axis=(0, 1))).ravel().tolist()
    assert len(air) == 8
    assert (opened.read("set-a", (0, 0, air[0]), (40, 48, 8)) == -1024).all()
    assert opened.read_labels("set-a", (0, 0, 0), SHAPE).sum() == 2 * 8**3


@pytest.mark.parametrize("resident_gib", [0.0, 1.0])
def test_read__a_lost_file_is_not_air(store: Path, resident_gib: float) -> None:
    lost = array(store) / "c/1/0/1"
    lost.unlink()
    opened = ScanStore(store, resident_gib=resident_gib)
    assert opened.read("set-a", (0, 0, 32), (32, 32, 32)).max() > 0, "other files are read"
    with pytest.raises(StoreError, match=r"'set-a' are missing: there is no file scans/set-a/0/c/1/0/1") as raised:
        opened.read("set-a", (20, 10, 30), (20, 10, 20))
    assert "copy the store again" in str(raised.value)


def test_read_labels__a_lost_file_is_not_background(store: Path) -> None:
    lost = first_file(array(store, "labels"))
    lost.unlink()
    with pytest.raises(StoreError, match=str(lost.relative_to(store))):
        ScanStore(store).read_labels("set-a", (0, 0, 0), SHAPE)


def test_occupancy__a_lost_file_is_not_air(store: Path) -> None:
    """Every superpatch would be skipped as air."""
    (array(store, "occupancy") / "c/0/0/0").unlink()
    with pytest.raises(StoreError, match="scans/set-a/occupancy/c/0/0/0"):
        ScanStore(store).occupancy("set-a")


def test_store__an_address_is_not_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "check", "https://example.org/store"]) == 2
    assert "give the folder of a store" in capsys.readouterr().err


def test_read__a_lost_file_behind_an_address_is_not_air(store: Path) -> None:
    (array(store) / "c/0/0/1").unlink()
    with served(store) as server:
        opened = ScanStore(server.address)
        assert opened.read("set-a", (32, 32, 32), (8, 16, 32)).max() > 0
        with pytest.raises(StoreError, match="scans/set-a/0/c/0/0/1"):
            opened.read("set-a", (0, 0, 32), (16, 16, 16))


def test_loader__a_store_that_is_moved_away_ends_the_training(store: Path, tmp_path: Path) -> None:
    class Everywhere:
        def __len__(self) -> int:
            return 1000

        def place(self, number: int) -> Place:
            return Place("set-a" if number % 2 else "set-b", (number % 9, number % 17, number % 33))

    dataset = SuperpatchDataset(ScanStore(store), Everywhere(), (32, 32, 32))
    loader = iter(ResumableLoader(dataset, Order(1, 0, 1, 0, 1000)))
    for _ in range(20):
        next(loader)
    store.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="are missing"):
        list(loader)


@pytest.mark.parametrize(
    "lost", ["0", "0/c/1", "0/c/1/0/1", "labels/c", "labels/zarr.json", "occupancy", "occupancy/c", "1/c/0/0/0"]
)
def test_prepare__writes_again_what_is_lost(store: Path, scans: Path, hashes: Hashes, lost: str) -> None:
    before = hashes(store)
    path = store / "scans" / "set-a" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    report = prepare([scans], store, CONFIG, workers=0)
    assert hashes(store) == before
    ((name, fault),) = report.repaired
    assert (name, report.prepared, report.skipped, report.changed) == ("set-a", ("set-a",), ("set-b",), ())
    assert "missing" in fault
    told = f"set-a ({scans / 'a.nii.gz'}) was damaged in the store, and is written again: {fault}"
    assert told in prepare_text(report, store)
    assert prepare([scans], store, CONFIG, workers=0).repaired == ()


def test_prepare__writes_again_what_is_cut(store: Path, scans: Path, hashes: Hashes) -> None:
    before = hashes(store)
    shard = array(store) / "c/0/0/1"
    shard.write_bytes(shard.read_bytes()[:-100])
    prepare([scans], store, CONFIG, workers=0)
    assert hashes(store) == before


def test_store__checks_repairs_and_is_prepared_again(
    store: Path, scans: Path, hashes: Hashes, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(store)
    assert main(["store", "check", str(store)]) == 0
    assert "as they were written" in capsys.readouterr().err
    shard = array(store) / "c/0/0/1"
    content = bytearray(shard.read_bytes())
    content[40] ^= 255
    shard.write_bytes(bytes(content))
    assert check_store(store) == {"set-a": "0: the contents of its files have changed"}
    assert main(["store", "check", str(store), "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"scans": {"set-a": "0: the contents of its files have changed"}}
    assert main(["store", "repair", str(store)]) == 0
    assert [entry.scan_id for entry in ScanStore(store).entries] == ["set-b"]
    assert not (store / "scans" / "set-a").exists()
    prepare([scans], store, CONFIG, workers=0)
    assert hashes(store) == before


@pytest.mark.parametrize("name", ["nowhere", "s3://bucket/store"])
def test_store__makes_no_folder_where_no_store_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["check"], ["repair"], ["remove", "--scans", "a"]):
        assert main(["store", words[0], name, *words[1:]]) == 2
        assert f"where: {name}\n" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_store__removes_scans_that_are_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "remove", str(store), "--scans", "set-c"]) == 2
    assert "did you mean 'set-" in capsys.readouterr().err
    assert main(["store", "remove", str(store)]) == 2
    assert main(["store", "remove", str(store), "--scans", "set-b"]) == 0
    assert [entry.scan_id for entry in ScanStore(store).entries] == ["set-a"]
    assert main(["store", "check", str(store / "nowhere")]) == 2


def test_store__a_store_of_version_01_is_read_without_records(store: Path, scans: Path, hashes: Hashes) -> None:
    recorded = hashes(store)
    manifest = json.loads((store / "manifest.json").read_text())
    for row in manifest["scans"]:
        del row["arrays"]
        group = store / "scans" / row["scan_id"] / "zarr.json"
        content = json.loads(group.read_text())
        del content["attributes"]["maesil"]["arrays"]
        group.write_text(json.dumps(content))
    (store / "manifest.json").write_text(json.dumps(manifest))
    assert ScanStore(store).volume("set-a").shape == SHAPE
    assert check_store(store) == {}
    prepare([scans], store, CONFIG, workers=0)
    assert hashes(store) == recorded, "prepare makes the record of a store that has none"
    (store / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(array(store))
    assert check_store(store) == {"set-a": "0: zarr.json is missing"}
    prepare([scans], store, CONFIG, workers=0)
    assert check_store(store) == {}
