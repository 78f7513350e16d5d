from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.datasets import salt as salts
from maesil.errors import ConfigError, StoreError
from maesil.screen import prepare_text
from maesil.store import writing
from maesil.store.conform import conform
from maesil.store.prepare import PrepareConfig, PrepareReport, prepare
from maesil.store.scanstore import ScanStore

Hashes = Callable[[Path], dict[str, str]]
CONFIG = PrepareConfig(spacing_mm=3.0, chunk=16, shard=32, salt="test")
REPLACING = replace(CONFIG, replace=True)


def here(source: Path, out: Path, config: PrepareConfig = CONFIG) -> PrepareReport:
    return prepare([source], out, config, workers=0)


def test_prepare__writes_what_the_policy_asks_for(
    sources: Path, tmp_path: Path, make_scan: Callable[..., Volume]
) -> None:
    volume = make_scan("set/d.nii.gz", 7, (20, 40, 30), (5.0, 0.9, 0.9))
    report = here(sources, tmp_path / "store")
    assert report.prepared == ("set-a", "set-b", "set-c", "set-d")
    assert (report.skipped, report.quarantined, report.changed) == ((), (), ())
    store = ScanStore(tmp_path / "store")
    expected = conform(volume, store.manifest["settings"])
    np.testing.assert_array_equal(store.volume("set-d").array, expected.array)
    np.testing.assert_allclose(store.entry("set-d").geometry.affine, expected.geometry.affine, atol=1e-4)
    assert store.entry("set-d").source_geometry.shape == (20, 40, 30)
    assert store.entry("set-d").tissue_share == pytest.approx((expected.array > -500).mean(), abs=1e-6)


def test_prepare__again_has_nothing_to_do(sources: Path, tmp_path: Path, hashes: Hashes) -> None:
    here(sources, tmp_path / "store")
    before = hashes(tmp_path / "store")
    report = here(sources, tmp_path / "store")
    assert (report.prepared, report.skipped) == ((), ("set-a", "set-b", "set-c"))
    assert hashes(tmp_path / "store") == before


def test_prepare__again_starts_no_workers(sources: Path, tmp_path: Path) -> None:
    here(sources, tmp_path / "store")
    again = (
        "import sys; from pathlib import Path; from maesil import pipeline\n"
        "from maesil.store.settings import PrepareConfig\n"
        "config = PrepareConfig(spacing_mm=3.0, chunk=16, shard=32, salt='test')\n"
        "shown = []\n"
        "report = pipeline.prepare(sys.argv[1], sys.argv[2], config, progress=lambda *row: shown.append(row))\n"
        "assert report.skipped == ('set-a', 'set-b', 'set-c')\n"
        "assert [row[:2] for row in shown] == [(0, 3), (1, 3), (2, 3), (3, 3)]\n"
        "slow = {'dask', 'distributed', 'torch', 'pandas'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    subprocess.run([sys.executable, "-c", again, str(sources), str(tmp_path / "store")], check=True)


def test_prepare__two_stores_of_the_same_scans_have_the_same_bytes(
    sources: Path, tmp_path: Path, hashes: Hashes
) -> None:
    here(sources, tmp_path / "one")
    here(sources, tmp_path / "two")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_prepare__grows_to_the_bytes_of_one_call(
    sources: Path, tmp_path: Path, hashes: Hashes, make_scan: Callable[..., Volume]
) -> None:
    make_scan("more/a.nii.gz", 9)
    here(sources, tmp_path / "grown")
    report = here(tmp_path / "more", tmp_path / "grown")
    assert (report.prepared, report.skipped) == (("more-a",), ())
    prepare([sources, tmp_path / "more"], tmp_path / "whole", CONFIG, workers=0)
    assert hashes(tmp_path / "grown") == hashes(tmp_path / "whole")
    assert len(ScanStore(tmp_path / "grown").entries) == 4


def test_prepare__continues_after_an_interruption(
    sources: Path, tmp_path: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(done: int, total: int, name: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([sources], tmp_path / "store", CONFIG, workers=0, progress=interrupted)
    with pytest.raises(StoreError, match="not finished"):
        ScanStore(tmp_path / "store")
    report = here(sources, tmp_path / "store")
    assert (report.prepared, report.skipped) == (("set-c",), ("set-a", "set-b"))
    here(sources, tmp_path / "undisturbed")
    assert hashes(tmp_path / "store") == hashes(tmp_path / "undisturbed")


def test_prepare__an_interruption_within_a_scan_leaves_no_draft(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_flush", interrupt)
    with pytest.raises(KeyboardInterrupt):
        here(sources, tmp_path / "store")
    assert [path.name for path in (tmp_path / "store" / "scans").iterdir()] == ["zarr.json"]


def test_prepare__sweeps_what_a_killed_call_left(sources: Path, tmp_path: Path, hashes: Hashes) -> None:
    here(sources, tmp_path / "undisturbed")
    draft = tmp_path / "store" / "scans" / ".draft-set-a-12345" / "0"
    draft.mkdir(parents=True)
    (draft / "half").write_bytes(b"half a shard")
    (tmp_path / "store" / ".zarr.json.draft").write_text("{")
    (tmp_path / "store" / "zarr.json").write_bytes((tmp_path / "undisturbed" / "zarr.json").read_bytes())
    here(sources, tmp_path / "store")
    assert hashes(tmp_path / "store") == hashes(tmp_path / "undisturbed")


def test_prepare__a_call_killed_before_its_first_file_left_nothing_in_the_way(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".zarr.json.draft").write_text("{")
    assert len(here(sources, tmp_path / "store").prepared) == 3


def test_prepare__prepares_a_changed_scan_anew(
    sources: Path, tmp_path: Path, hashes: Hashes, make_scan: Callable[..., Volume]
) -> None:
    here(sources, tmp_path / "store")
    make_scan("set/b.nii.gz", 99, (20, 20, 20))
    report = here(sources, tmp_path / "store", REPLACING)
    assert (report.prepared, report.changed, report.skipped) == (("set-b",), ("set-b",), ("set-a", "set-c"))
    here(sources, tmp_path / "fresh")
    assert hashes(tmp_path / "store") == hashes(tmp_path / "fresh")


def test_prepare__keeps_a_scan_whose_name_stands_for_other_files(
    sources: Path, tmp_path: Path, hashes: Hashes, make_scan: Callable[..., Volume]
) -> None:
    """Folders of two hospitals may both have a scan `b`, and neither is lost without a word."""
    here(sources, tmp_path / "store")
    before = hashes(tmp_path / "store" / "scans")
    make_scan("set/b.nii.gz", 99, (20, 20, 20))
    (sources / "c.nii.gz").write_bytes(b"no scan")
    report = here(sources, tmp_path / "store")
    assert (report.prepared, report.skipped, report.removed) == ((), ("set-a",), ())
    assert hashes(tmp_path / "store" / "scans") == before
    assert [row.scan_id for row in report.quarantined] == ["set-b", "set-c"]
    said = prepare_text(report, tmp_path / "store")
    assert "b.nii.gz: the store has set-b from other files, and keeps it (if its files have changed, replace it" in said
    assert {row["scan_id"] for row in json.loads((tmp_path / "store" / "manifest.json").read_text())["scans"]} == {
        "set-a", "set-b", "set-c",
    }  # fmt: skip


def test_prepare_text__says_what_was_replaced_and_what_was_removed(
    sources: Path, tmp_path: Path, make_scan: Callable[..., Volume]
) -> None:
    here(sources, tmp_path / "store")
    make_scan("set/b.nii.gz", 99, (20, 20, 20))
    (sources / "c.nii.gz").write_bytes(b"no scan")
    report = here(sources, tmp_path / "store", REPLACING)
    assert (report.changed, report.replaced, report.removed) == (("set-b",), ("set-b",), ("set-c",))
    said = prepare_text(report, tmp_path / "store")
    assert f"warning: set-b ({sources / 'b.nii.gz'}): replaced, as this store had it from other files" in said
    assert (
        f"warning: set-c ({sources / 'c.nii.gz'}): removed from the store, as the files of this name are refused now"
        in said
    )
    assert here(sources, tmp_path / "store", REPLACING).removed == ()


def test_prepare__one_bad_scan_leaves_the_others_alone(sources: Path, tmp_path: Path) -> None:
    (sources / "bad.nii.gz").write_bytes(b"no scan")
    report = here(sources, tmp_path / "store")
    assert report.prepared == ("set-a", "set-b", "set-c")
    (row,) = report.quarantined
    assert (row.source, row.scan_id, row.path) == ("bad.nii.gz", "set-bad", str(sources / "bad.nii.gz"))
    kept = [json.loads(line) for line in (tmp_path / "store" / "quarantine.jsonl").read_text().splitlines()]
    assert kept == [{"source": "bad.nii.gz", "scan_id": "set-bad", "reason": row.reason, "fix": row.fix}]
    assert "damaged" in row.reason
    assert [entry.scan_id for entry in ScanStore(tmp_path / "store").entries] == ["set-a", "set-b", "set-c"]


def test_prepare__a_bad_scan_that_is_mended_leaves_the_quarantine(
    sources: Path, tmp_path: Path, hashes: Hashes, make_scan: Callable[..., Volume]
) -> None:
    (sources / "d.nii.gz").write_bytes(b"no scan")
    here(sources, tmp_path / "store")
    make_scan("set/d.nii.gz", 4)
    assert here(sources, tmp_path / "store").prepared == ("set-d",)
    assert (tmp_path / "store" / "quarantine.jsonl").read_text() == ""
    here(sources, tmp_path / "fresh")
    assert hashes(tmp_path / "store") == hashes(tmp_path / "fresh")


def test_prepare__a_scan_that_turns_bad_leaves_the_store_if_it_may_be_replaced(
    sources: Path, tmp_path: Path, hashes: Hashes
) -> None:
    here(sources, tmp_path / "store")
    (sources / "b.nii.gz").write_bytes(b"no scan")
    assert [row.scan_id for row in here(sources, tmp_path / "store", REPLACING).quarantined] == ["set-b"]
    here(sources, tmp_path / "fresh")
    assert hashes(tmp_path / "store") == hashes(tmp_path / "fresh")


def test_prepare__a_file_that_cannot_be_opened_just_now_stays_in_the_store(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(sources, tmp_path / "store")
    sound = writing.fingerprint

    def unreadable(files: tuple[Path, ...]) -> str:
        if files[0].name == "b.nii.gz":
            raise OSError(5, "Input/output error", str(files[0]))
        return sound(files)

    monkeypatch.setattr(writing, "fingerprint", unreadable)
    report = here(sources, tmp_path / "store")
    assert [(row.scan_id, row.reason) for row in report.quarantined] == [("set-b", "Input/output error")]
    assert len(ScanStore(tmp_path / "store").entries) == 3


def test_prepare__whatever_a_reader_raises_is_that_scans_reason(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = writing.read

    def broken(path: Path, **how: Any) -> Volume:
        if path.name == "b.nii.gz":
            raise ZeroDivisionError("a bug of a library")
        return sound(path, **how)

    monkeypatch.setattr(writing, "read", broken)
    report = here(sources, tmp_path / "store")
    assert len(report.prepared) == 2
    assert "ZeroDivisionError" in report.quarantined[0].reason
    assert "a bug of a library" not in report.quarantined[0].reason, "a library's words may quote a header"


def test_prepare__other_settings_need_another_store(sources: Path, tmp_path: Path, hashes: Hashes) -> None:
    here(sources, tmp_path / "store")
    before = hashes(tmp_path / "store")
    with pytest.raises(StoreError, match=r"spacing_mm 3.0 -> 2.0") as raised:
        here(sources, tmp_path / "store", PrepareConfig(spacing_mm=2.0, chunk=16, shard=32))
    assert "--out" in str(raised.value)
    assert hashes(tmp_path / "store") == before


@pytest.mark.parametrize("content", ["notes.txt", "zarr.json"])
def test_prepare__leaves_folders_of_others_alone(sources: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / content).write_text("{}")
    with pytest.raises(StoreError, match="not a store"):
        here(sources, tmp_path / "store")
    assert (tmp_path / "store" / content).read_text() == "{}"


def test_prepare__leaves_groups_of_others_as_they_are(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(StoreError, match="not a store of maesil"):
        here(sources, tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["zarr.json"]


def test_prepare__only_bad_scans_make_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "bad.nii.gz").write_bytes(b"no scan")
    report = here(tmp_path / "set", tmp_path / "store")
    assert (report.prepared, len(report.quarantined)) == ((), 1)
    assert ScanStore(tmp_path / "store").entries == ()


def test_prepare__nothing_to_prepare_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(ConfigError, match="no scan"):
        here(tmp_path / "set", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_prepare__tells_how_far_it_is(sources: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    prepare([sources], tmp_path / "store", CONFIG, workers=0, progress=lambda *call: calls.append(call))
    assert calls == [(0, 3, ""), (1, 3, "set-a"), (2, 3, "set-b"), (3, 3, "set-c")]


def test_prepare__passes_on_what_a_reader_had_to_assume(tmp_path: Path, make_scan: Callable[..., Volume]) -> None:
    make_scan("set/a.nii.gz")
    import nibabel

    image = nibabel.load(tmp_path / "set" / "a.nii.gz")
    shifted = image.affine.copy()
    shifted[0, 3] += 25
    image.set_qform(shifted, code=1)
    nibabel.save(image, tmp_path / "set" / "b.nii.gz")
    warnings = dict(here(tmp_path / "set", tmp_path / "store").warnings)
    assert set(warnings) == {"set-b"}
    assert "sform was used" in warnings["set-b"]


def test_prepare__a_full_disk_ends_it_with_a_reason_and_is_continued(
    sources: Path, tmp_path: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    here(sources, tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        patched.setattr(writing.ScanWriter, "write", full)
        with pytest.raises(StoreError, match="No space left on device") as raised:
            here(sources, tmp_path / "store")
    assert "continues" in str(raised.value)
    here(sources, tmp_path / "store")
    assert hashes(tmp_path / "store") == hashes(tmp_path / "undisturbed")


def test_prepare__needs_no_salt_for_public_names(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salts, "salt_path", lambda: tmp_path / "configuration" / "salt")
    here(sources, tmp_path / "store", PrepareConfig(spacing_mm=3.0))
    assert not (tmp_path / "configuration").exists()


def test_prepare__makes_a_salt_for_dicom_outside_the_store(
    write_series: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: Hashes
) -> None:
    monkeypatch.setattr(salts, "salt_path", lambda: tmp_path / "configuration" / "salt")
    series = write_series("tree/someone")
    here(series, tmp_path / "one", PrepareConfig(spacing_mm=3.0))
    here(series, tmp_path / "two", PrepareConfig(spacing_mm=3.0))
    salt = (tmp_path / "configuration" / "salt").read_text().strip()
    assert all(salt.encode() not in path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_prepare__another_salt_would_double_scans_and_is_refused(
    write_series: Callable[..., Path], sources: Path, tmp_path: Path
) -> None:
    series = write_series("tree/someone")
    here(sources, tmp_path / "store")
    here(series, tmp_path / "store")
    with pytest.raises(StoreError, match="another salt"):
        here(series, tmp_path / "store", PrepareConfig(spacing_mm=3.0, chunk=16, shard=32, salt="other"))
    assert len(ScanStore(tmp_path / "store").entries) == 4


@pytest.mark.parametrize("sizes", [(32, 100), (24, 128), (32, 24)])
def test_prepare_config__refuses_chunks_that_do_not_divide_their_shard(sizes: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        PrepareConfig(chunk=sizes[0], shard=sizes[1])


def test_prepare__names_beyond_ascii_are_scans_of_their_own(make_scan: Callable[..., Volume], tmp_path: Path) -> None:
    names = ["김민준", "이서연", "Ärzte", "Arzte"]
    for seed, name in enumerate(names):
        make_scan(f"환자/{name}.nii.gz", seed)
    report = prepare([tmp_path / "환자"], tmp_path / "store", PrepareConfig(spacing_mm=4.0), workers=0)
    assert (len(report.prepared), report.quarantined) == (4, ())
    entries = ScanStore(tmp_path / "store").entries
    assert len({entry.patient for entry in entries}) == 4
    assert all(entry.scan_id.isascii() and "unnamed" not in entry.scan_id for entry in entries)


def test_prepare__values_that_are_no_hounsfield_units_are_refused_unless_accepted(
    make_scan: Callable[..., Volume], tmp_path: Path
) -> None:
    make_scan("set/a.nii.gz", 0)
    volume = make_scan("set/b.nii.gz", 1)
    write_nifti(tmp_path / "set" / "b.nii.gz", Volume(volume.array + 1024, volume.geometry))
    out = tmp_path / "store"
    refused = here(tmp_path / "set", out)
    assert refused.prepared == ("set-a",)
    (row,) = refused.quarantined
    assert "no voxel is below 0 HU; the values run from 0" in row.reason
    assert "--accept-any-values" in row.fix
    assert here(tmp_path / "set", out).quarantined == refused.quarantined, "a second call refuses it again"

    accepted = here(tmp_path / "set", out, replace(CONFIG, accept_any_values=True))
    assert (accepted.prepared, accepted.skipped, accepted.quarantined) == (("set-b",), ("set-a",), ())
    rows = {row["scan_id"]: row for row in ScanStore(out).manifest["scans"]}
    assert "no voxel is below 0 HU" in rows["set-b"]["accepted_values"]
    assert "accepted_values" not in rows["set-a"]
    again = here(tmp_path / "set", out)
    assert (again.skipped, again.quarantined) == (("set-a", "set-b"), ())
    assert again.warnings == accepted.warnings
    assert "prepared although no voxel is below 0 HU" in again.warnings[0][1]
