"""What the page gets, and that it shows it: real pixels in a browser."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from browser import CHROMIUM
from devtools import Page, browser_page
from maesil import pipeline
from maesil.config import RunConfig
from maesil.ct.geometry import Geometry
from maesil.ct.readers import read
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.errors import ConfigError, NoScanError, ScanError
from maesil.store.scanstore import ScanStore
from maesil.view.server import PageServer
from maesil.view.sources import open_sources
from maesil.view.view import Content


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Soft tissue with a bright block at the patient's anterior right, and its labels."""
    folder = tmp_path_factory.mktemp("scan")
    shape = (40, 40, 40)
    geometry = Geometry.from_parts(shape, (2.0, 2.0, 2.0))
    hu = np.full(shape, 40, dtype=np.int16)
    hu[15:35, 5:15, 5:15] = 900
    write_nifti(folder / "scan.nii.gz", Volume(hu, geometry))
    write_nifti(folder / "labels.nii.gz", Volume((hu > 500).astype(np.uint8), geometry))
    return folder / "scan.nii.gz"


@pytest.fixture
def run(tiny_config: RunConfig, tmp_path: Path) -> Path:
    train, monitor = tiny_config.train, tiny_config.monitor
    config = replace(tiny_config, train=replace(train, steps=1), monitor=replace(monitor, validate_every=0))
    return pipeline.pretrain(config, tmp_path / "run").run


def described(content: Content, number: int) -> dict[str, Any]:
    answer = content.find(f"{number}/scan.json")
    assert answer is not None
    found: dict[str, Any] = json.loads(answer.body)
    return found


def volume_of(content: Content, name: str, folder: Path) -> Volume:
    answer = content.find(name)
    assert answer is not None
    (folder / "served.nii").write_bytes(answer.body)
    return read(folder / "served.nii")


def test_content__of_a_store_is_every_scan(tiny_store: Path, tmp_path: Path) -> None:
    content, store = Content(open_sources([tiny_store])), ScanStore(tiny_store)
    listed = content.find("scans.json")
    assert listed is not None
    assert [row["name"] for row in json.loads(listed.body)] == [entry.scan_id for entry in store.entries]
    assert described(content, 1)["volumes"] == ["original"]
    shown, stored = (
        volume_of(content, "1/original.nii", tmp_path).reorient("SPL"),
        store.volume(store.entries[1].scan_id),
    )
    assert np.array_equal(shown.array, stored.array)
    assert np.allclose(shown.geometry.affine, stored.geometry.affine, atol=1e-4)


def test_content__of_a_run_is_its_held_out_scans(run: Path, tiny_store: Path, tmp_path: Path) -> None:
    content = Content(open_sources([run]))
    (entry,) = (entry for entry in ScanStore(tiny_store).entries if entry.patient == "d")
    listed = content.find("scans.json")
    assert listed is not None
    assert json.loads(listed.body) == [{"name": entry.scan_id, "group": "run, split test, rebuilt at step 1"}]
    assert described(content, 0)["volumes"] == ["original", "reconstruction", "error", "mask"]
    parts = {name: volume_of(content, f"0/{name}.nii", tmp_path).array for name in described(content, 0)["volumes"]}
    hidden = parts["mask"] == 1
    assert 0.5 < hidden.mean() < 0.9
    assert np.array_equal(parts["original"][~hidden], parts["reconstruction"][~hidden])
    error = np.abs(parts["original"].astype(int) - parts["reconstruction"])
    assert np.abs(parts["error"] - error).max() <= 1
    assert parts["error"][hidden].mean() > 10


def test_content__scans_after_a_run_are_rebuilt_by_it(run: Path, scans: Path) -> None:
    content = Content(open_sources([run, scans / "a.nii.gz"]))
    listed = content.find("scans.json")
    assert listed is not None
    assert json.loads(listed.body) == [{"name": "a.nii.gz", "group": "rebuilt at step 1"}]
    assert described(content, 0)["volumes"] == ["original", "reconstruction", "error", "mask"]


def test_content__labels_say_that_they_are(scan: Path, tmp_path: Path) -> None:
    """NiiVue shows the values of a file with this header as they are, and not as a range of colours."""
    content = Content(open_sources([scan], labels=scan.with_name("labels.nii.gz")))
    assert described(content, 0)["names"] == {"1": "1"}
    assert np.array_equal(volume_of(content, "0/labels.nii", tmp_path).array, read(scan).array > 500)
    image = nibabel.Nifti1Image.from_filename(tmp_path / "served.nii")
    assert image.header.get_intent()[0] == "label"


@pytest.mark.parametrize(
    "name", ["4/scan.json", "-1/scan.json", "0/", "0/mask.nii", "0/original", "0/../view.css", "¹/scan.json"]
)
def test_content__knows_no_other_names(tiny_store: Path, name: str) -> None:
    assert Content(open_sources([tiny_store])).find(name) is None


def test_open_sources__refuses_before_a_page_opens(scan: Path, tmp_path: Path) -> None:
    labels = scan.with_name("labels.nii.gz")
    with pytest.raises(NoScanError, match="no such store, run, file or folder"):
        open_sources([tmp_path / "nowhere"])
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ScanError, match="cannot be read as a scan"):
        open_sources([tmp_path / "notes.txt"])
    with pytest.raises(ConfigError, match="labels belong to one scan"):
        open_sources([scan, scan], labels=labels)
    with pytest.raises(ConfigError, match="nothing to view"):
        pipeline.view([])


def heed_ctrl_c() -> None:
    """Undoes what a shell does to the commands that it runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_view__prints_its_address_and_stops_at_ctrl_c(scan: Path) -> None:
    words = [sys.executable, "-u", "-m", "maesil", "view", str(scan), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c) as command:
        assert command.stdout is not None
        try:
            with urllib.request.urlopen(command.stdout.readline().strip(), timeout=10) as answer:
                assert b"<title>maesil view</title>" in answer.read()
            command.send_signal(signal.SIGINT)
            assert command.wait(timeout=60) == 0
        finally:
            command.kill()


def test_niivue__is_the_published_file_with_its_licence() -> None:
    folder = resources.files("maesil.view") / "niivue"
    digest, name = (folder / "SHA256SUMS").read_text().split()
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    licences = (folder / "LICENSES.txt").read_text()
    assert "BSD 2-Clause License" in licences
    assert "Copyright (c) 2021, Niivue" in licences


@contextmanager
def served(sources: Sequence[Path], labels: Path | None = None) -> Iterator[str]:
    server = PageServer(Content(open_sources(sources, labels=labels)).find)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join()
        server.close()


def panel(page: Page, number: int) -> npt.NDArray[np.int64]:
    """The pixels of a panel's canvas."""
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    script = f"(() => {{ const r = document.querySelectorAll('canvas')[{number}].getBoundingClientRect();"
    left, top, right, bottom = map(round, page.run(f"{script} return [r.left, r.top, r.right, r.bottom]; }})()"))
    return page.picture()[top:bottom, left:right].astype(int)


def middle(marked: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Where marked pixels are: shares of height and width."""
    rows, columns = np.nonzero(marked)
    assert len(rows) > 50
    return float(rows.mean() / marked.shape[0]), float(columns.mean() / marked.shape[1])


READY = "document.documentElement.dataset.ready || document.documentElement.dataset.error"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_page__shows_volumes_in_a_browser(scan: Path, run: Path, tmp_path: Path) -> None:
    with browser_page(tmp_path / "profile") as page:
        with served([scan], scan.with_name("labels.nii.gz")) as address:
            page.open(address)
            assert page.wait_for(READY) == "0"
            page.press("v")  # axial
            red = (shown := panel(page, 0))[..., 0] - shown[..., 1] > 50
            assert middle(red)[0] < 0.5, "the labelled block is anterior"
            page.press("l")
            page.press("4")  # bone: the block is white, the rest grey
            bright = panel(page, 0).min(axis=-1) > 200
            assert not (panel(page, 0)[..., 0] - panel(page, 0)[..., 1] > 50).any(), "labels are off"
            row, column = middle(bright)
            assert (row < 0.5, column < 0.5) == (True, True), "radiological: right is on the left"
            page.press("c")
            flipped = middle(panel(page, 0).min(axis=-1) > 200)
            assert flipped[0] < 0.5 < flipped[1], "neurological: right is on the right"
            before = page.run("document.getElementById('place').textContent")
            page.press("PageUp")
            assert page.run("document.getElementById('place').textContent") != before
        with served([run]) as address:
            page.open(address)
            assert page.wait_for(READY) == "0"
            original, masked, rebuilt, error = (panel(page, number) for number in range(4))
            hidden = (np.abs(masked - (33, 43, 64)) <= 2).all(axis=-1)
            assert hidden.mean() > 0.05
            assert not (np.abs(original - (33, 43, 64)) <= 2).all(axis=-1).any()
            assert np.abs(original - rebuilt)[hidden].mean() > 5
            assert (error.max(axis=-1) - error.min(axis=-1) > 60).any(), "errors are in colour"
            page.click(
                *page.run(
                    "(() => { const r = document.querySelectorAll('canvas')[1].getBoundingClientRect();"
                    " return [r.left + r.width * 0.6, r.top + r.height * 0.2]; })()"
                )
            )
            places = page.run("panels.map(({ nv }) => [...nv.scene.crosshairPos].map((at) => at.toFixed(4)).join())")
            assert len(set(places)) == 1, "panels are linked"
            assert places[0] != page.run("[0.5, 0.5, 0.5].map((at) => at.toFixed(4)).join()")
            assert {address.split("/")[2] for address in page.requested} == {
                place.split("/")[2] for place in page.requested if place.startswith("http://127.0.0.1:")
            }, "no request leaves this machine"
        assert page.complaints == []
        assert len(page.requested) > 10
