from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesil.ct.volume import Volume
from maesil.errors import NoStoreError, StoreError
from maesil.shapes import Shape3
from maesil.store.arrays import tissue_blocks
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore

SHAPE = (40, 37, 50)
CONFIG = PrepareConfig(policy="native", chunk=16, shard=32, salt="test")
starts = st.tuples(*[st.integers(-30, 60)] * 3)
sizes = st.tuples(*[st.integers(1, 40)] * 3)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.random.default_rng(5).integers(-1024, 3072, SHAPE).astype(np.int16)


@pytest.fixture(scope="module")
def path(truth: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from maesil.ct.geometry import Geometry
    from maesil.ct.write import write_nifti

    folder = tmp_path_factory.mktemp("scans")
    geometry = Geometry.from_parts(SHAPE, (2.5, 0.8, 0.7), (1.0, 2.0, 3.0))
    (folder / "set").mkdir()
    write_nifti(folder / "set" / "whole.nii.gz", Volume(truth, geometry))
    write_nifti(folder / "set" / "other.nii.gz", Volume(truth[:20].copy(), geometry.crop((0, 0, 0), (20, 37, 50))))
    prepare([folder / "set"], folder / "store", CONFIG, workers=0)
    return folder / "store"


def padded(truth: np.ndarray, start: Shape3, shape: Shape3, fill: int) -> np.ndarray:
    margin = 100
    wide = np.pad(truth, margin, constant_values=fill)
    return wide[tuple(slice(at + margin, at + margin + size) for at, size in zip(start, shape, strict=True))]


@given(starts, sizes, st.integers(-2000, 2000))
@pytest.mark.parametrize("resident_gib", [0.0, 1.0])
def test_read__any_box_is_a_box_of_the_padded_volume(
    truth: np.ndarray, path: Path, resident_gib: float, start: Shape3, shape: Shape3, fill: int
) -> None:
    store = OPENED.setdefault((path, resident_gib), ScanStore(path, resident_gib=resident_gib))
    box = store.read("set-whole", start, shape, fill)
    assert box.dtype == np.int16
    np.testing.assert_array_equal(box, padded(truth, start, shape, fill))


OPENED: dict[tuple[Path, float], ScanStore] = {}


@pytest.mark.parametrize("resident_gib", [0.0, 1.0])
def test_read__a_box_is_the_callers_own(truth: np.ndarray, path: Path, resident_gib: float) -> None:
    store = ScanStore(path, resident_gib=resident_gib)
    store.read("set-whole", (0, 0, 0), (8, 8, 8))[:] = 0
    np.testing.assert_array_equal(store.read("set-whole", (0, 0, 0), (8, 8, 8)), truth[:8, :8, :8])


def test_read__threads_do_not_disturb_each_other(truth: np.ndarray, path: Path) -> None:
    store = ScanStore(path)
    random = np.random.default_rng(0)
    places = [tuple(int(at) for at in random.integers(-5, 30, 3)) for _ in range(40)]
    with ThreadPoolExecutor(8) as threads:
        boxes = list(threads.map(lambda at: store.read("set-whole", at, (16, 16, 16)), places))
    for at, box in zip(places, boxes, strict=True):
        np.testing.assert_array_equal(box, padded(truth, at, (16, 16, 16), -1024))


def test_scan_store__travels_by_its_path(truth: np.ndarray, path: Path) -> None:
    store = ScanStore(path, resident_gib=1.0)
    store.read("set-whole", (0, 0, 0), (4, 4, 4))
    sent = pickle.dumps(store)
    assert len(sent) < truth.nbytes / 4
    np.testing.assert_array_equal(pickle.loads(sent).volume("set-whole").array, truth)


def test_scan_store__beside_the_working_folder(truth: np.ndarray, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths such as ../store are what a user types."""
    (path.parent / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(path.parent / "here")
    np.testing.assert_array_equal(ScanStore(Path("../store")).volume("set-whole").array, truth)
    prepare([Path("../set")], Path("../here/../again"), CONFIG, workers=0)
    np.testing.assert_array_equal(ScanStore(Path("../again")).volume("set-whole").array, truth)


def test_scan_store__lists_its_scans(truth: np.ndarray, path: Path) -> None:
    store = ScanStore(path)
    assert [entry.scan_id for entry in store.entries] == ["set-other", "set-whole"]
    entry = store.entry("set-whole")
    assert (entry.dataset, entry.patient, entry.shape) == ("set", "whole", SHAPE)
    assert entry.spacing_mm == pytest.approx((2.5, 0.8, 0.7), abs=1e-5)
    assert entry.geometry.orientation == "SPL"
    assert len(entry.source_sha256) == 64
    assert entry.tissue_share == pytest.approx((truth > -500).mean(), abs=1e-6)
    assert store.manifest["settings"]["policy"] == "native"


def test_volume__is_the_whole_scan(truth: np.ndarray, path: Path) -> None:
    volume = ScanStore(path).volume("set-whole")
    np.testing.assert_array_equal(volume.array, truth)
    np.testing.assert_allclose(volume.geometry.origin_mm, (1.0, 2.0, 3.0), atol=1e-5)


def test_occupancy__is_the_share_of_tissue(truth: np.ndarray, path: Path) -> None:
    np.testing.assert_array_equal(ScanStore(path).occupancy("set-whole"), tissue_blocks(truth))


def test_entry__names_the_nearest(path: Path) -> None:
    with pytest.raises(StoreError, match="no scan 'set-hole'") as raised:
        ScanStore(path).entry("set-hole")
    assert "'set-whole'" in str(raised.value)


def test_scan_store__there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here") as raised:
        ScanStore(tmp_path / "nowhere")
    assert "maesil prepare" in str(raised.value)


def test_scan_store__an_unfinished_store_is_not_opened(sources: Path, tmp_path: Path) -> None:
    prepare([sources], tmp_path / "store", CONFIG, workers=0)
    (tmp_path / "store" / "manifest.json").unlink()
    with pytest.raises(StoreError, match="not finished"):
        ScanStore(tmp_path / "store")


@pytest.mark.parametrize(
    ("text", "says"), [("{", "cannot be read"), ("[]", "not written by maesil"), ('{"format": 99}', "format 99")]
)
def test_scan_store__a_manifest_of_another_kind(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=says):
        ScanStore(tmp_path)


def test_read__arrays_that_are_gone(sources: Path, tmp_path: Path) -> None:
    prepare([sources], tmp_path / "store", CONFIG, workers=0)
    (tmp_path / "store" / "scans" / "set-a" / "0" / "zarr.json").unlink()
    with pytest.raises(StoreError, match="damaged"):
        ScanStore(tmp_path / "store").read("set-a", (0, 0, 0), (8, 8, 8))


def test_read__a_scan_prepared_anew_behind_the_manifest(
    sources: Path, tmp_path: Path, make_scan: Callable[..., Volume]
) -> None:
    prepare([sources], tmp_path / "store", CONFIG, workers=0)
    opened = ScanStore(tmp_path / "store")
    make_scan("set/a.nii.gz", 8, (24, 24, 24))
    prepare([sources], tmp_path / "store", replace(CONFIG, replace=True), workers=0)
    with pytest.raises(StoreError, match="prepared again"):
        opened.read("set-a", (0, 0, 0), (8, 8, 8))
    assert ScanStore(tmp_path / "store").volume("set-a").shape == (24, 24, 24)


def test_scanstore__of_no_store_says_so() -> None:
    with pytest.raises(NoStoreError, match="no store is given") as raised:
        ScanStore([])
    assert str(raised.value.fix).startswith("--data.store STORE")
