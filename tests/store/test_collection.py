"""The store's root as a collection for other readers: zarr-python, ome-zarr and ome-zarr-models, napari's plugin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import zarr

from maesil.files import read_json, write_json
from maesil.store import collection
from maesil.store.check import remove_scans
from maesil.store.collection import SCHEMA
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore

SMALL = PrepareConfig(spacing_mm=4.0, chunk=16, shard=32, salt="s")
SCAN_MEMBERS = ("", "/0", "/1", "/2", "/occupancy")


@pytest.fixture
def store(sources: Path, tmp_path: Path) -> Path:
    prepare([sources], tmp_path / "store", SMALL, workers=0)
    return tmp_path / "store"


def members(store: Path) -> set[str]:
    """What zarr-python lists; it warns of what it does not know, and warnings are errors in tests."""
    return {name for name, _ in zarr.open_group(store, mode="r").members(max_depth=None)}


def images(store: Path) -> list[str]:
    """Paths of the images in the OME-XML, which napari-ome-zarr opens."""
    root = ET.parse(store / "OME" / "METADATA.ome.xml").getroot()
    return [image.attrib["ID"].removeprefix("Image:") for image in root.findall(f"{{{SCHEMA}}}Image")]


def test_write_collection__zarr_lists_the_scans_without_a_warning(store: Path) -> None:
    scans = {f"scans/set-{name}{member}" for name in "abc" for member in SCAN_MEMBERS}
    assert members(store) == {"OME", "scans", *scans}
    assert zarr.open_group(store, mode="r")["scans/set-b/1"].shape == zarr.open_array(store / "scans/set-b/1").shape


def test_write_collection__lists_the_images(store: Path) -> None:
    series = [f"scans/set-{name}" for name in "abc"]
    root = zarr.open_group(store, mode="r")
    assert root.attrs["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}
    assert root["OME"].attrs["ome"]["series"] == series
    assert images(store) == series
    (first, *_) = ET.parse(store / "OME" / "METADATA.ome.xml").iter(f"{{{SCHEMA}}}Pixels")
    assert [int(first.attrib[f"Size{axis}"]) for axis in "ZYX"] == list(root["scans/set-a/0"].shape)
    assert first.attrib["PhysicalSizeX"] == "4"


def test_write_collection__follows_what_is_removed_and_added(
    store: Path, sources: Path, make_scan: Callable[..., object]
) -> None:
    remove_scans(store, ["set-b"])
    assert images(store) == ["scans/set-a", "scans/set-c"]
    assert "scans/set-b" not in members(store)
    make_scan("set/d.nii.gz", 7)
    prepare([sources], store, SMALL, workers=0)
    assert images(store) == [f"scans/set-{name}" for name in "abcd"]
    assert "scans/set-d/0" in members(store)


def test_write_collection__beside_a_damaged_scan(store: Path) -> None:
    (store / "scans" / "set-a" / "1" / "zarr.json").unlink()
    remove_scans(store, ["set-b"])
    assert members(store) >= {"scans/set-a/0", "scans/set-c/1"}


def test_write_collection__many_scans_are_not_consolidated(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "CONSOLIDATED_SCANS", 2)
    prepare([sources], tmp_path / "store", SMALL, workers=0)
    assert "consolidated_metadata" not in read_json(tmp_path / "store" / "zarr.json")
    assert len(images(tmp_path / "store")) == 3
    with pytest.warns(zarr.errors.ZarrUserWarning, match="not recognized as a component of a Zarr hierarchy"):
        assert members(tmp_path / "store") >= {"scans/set-a/0"}
    assert members(tmp_path / "store" / "scans") >= {"set-a/0", "set-c/2"}, "without a warning"


def test_prepare__an_older_store_keeps_its_scans_and_becomes_a_collection(
    store: Path, sources: Path, hashes: Callable[[Path], dict[str, str]]
) -> None:
    for file in (store / "OME").iterdir():
        file.unlink()
    (store / "OME").rmdir()
    root = read_json(store / "zarr.json")
    write_json(store / "zarr.json", {**root, "attributes": {"maesil": root["attributes"]["maesil"]}})
    for name in "abc":  # as they were before axes had directions
        path = store / "scans" / f"set-{name}" / "zarr.json"
        scan = read_json(path)
        for axis in scan["attributes"]["ome"]["multiscales"][0]["axes"]:
            del axis["orientation"]
        write_json(path, scan)
    before = hashes(store)
    assert len(ScanStore(store).entries) == 3
    assert hashes(store) == before
    report = prepare([sources], store, SMALL, workers=0)
    assert (report.prepared, len(report.skipped)) == ((), 3)
    after = hashes(store)
    assert {name for name in after if before.get(name) != after[name]} == {
        "OME/METADATA.ome.xml", "OME/zarr.json", "zarr.json"
    }  # fmt: skip
    assert len(images(store)) == 3


SHOWN = """
import sys, warnings
sys.path.insert(0, sys.argv[2])
import numpy as np, zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05 import BioFormats2Raw, Image
store = sys.argv[1]
with warnings.catch_warnings():
    warnings.simplefilter("error")
    root = zarr.open_group(store, mode="r")
    assert BioFormats2Raw.from_zarr(root).attributes.ome.bioformats2raw_layout == 3
    for path in root["OME"].attrs["ome"]["series"]:
        (image,) = Image.from_zarr(root[path]).attributes.ome.multiscales
        print([axis.orientation["value"] for axis in image.axes])
        (node, *_) = Reader(parse_url(f"{store}/{path}"))()
        np.testing.assert_array_equal(np.asarray(node.data[0]), root[path]["0"][:])
"""


@pytest.mark.interop
def test_store__ome_zarr_and_its_models_take_it(store: Path) -> None:
    packages = Path(sys.prefix) / "interop"
    if not all((packages / name).is_dir() for name in ("ome_zarr", "ome_zarr_models")):
        pytest.skip("ome-zarr and ome-zarr-models are not installed in the environment's folder interop")
    call = [sys.executable, "-c", SHOWN, str(store), str(packages)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    directions = "['inferior-to-superior', 'anterior-to-posterior', 'right-to-left']\n"
    assert (done.returncode, done.stdout) == (0, 3 * directions), done.stderr
