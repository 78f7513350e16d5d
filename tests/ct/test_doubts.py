"""What is probably wrong with a scan: nothing for real CT, and something for most of its misuses."""

from __future__ import annotations

import json
import os
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_slices import write_slice
from maesil.cli import main
from maesil.ct.doubts import ValuesWarning, doubts_about, warn_of
from maesil.ct.examine import ScanFacts, examine_scan
from maesil.ct.geometry import Geometry, GeometryWarning
from maesil.ct.readers import read
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.errors import MissingExtraError
from maesil.store.prepare import PrepareConfig, prepare

SWAPS = ((2, 1, 0), (1, 0, 2), (0, 2, 1))
"""Exchanges of two axes: Superior and Left, Superior and Posterior, Posterior and Left."""


def swapped(volume: Volume, order: tuple[int, int, int]) -> Volume:
    """The voxels in another order of axes, the affine in the old one."""
    shape = tuple(volume.shape[axis] for axis in order)
    return Volume(volume.array.transpose(order), Geometry.from_parts(shape, volume.spacing_mm))


def trunk(shape: tuple[int, int, int] = (40, 60, 80), step: float = 5.0) -> Volume:
    """An elliptical trunk in air, cut by the first and last slice."""
    s, p, left = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    inside = p**2 + left**2 < 0.8
    hu = np.where(inside, 40 + 30 * np.sin(7 * s), -1000)
    return Volume(hu.astype(np.int16), Geometry.from_parts(shape, (step, step, step)))


def test_doubts_about__a_trunk() -> None:
    assert doubts_about(trunk()) == ()
    for order, said in zip(SWAPS, ("cut along Left", "cut along Posterior", "Left and Posterior"), strict=True):
        (doubt,) = doubts_about(swapped(trunk(), order))
        assert said in doubt.what
        assert "order of the axes" in doubt.fix


def test_doubts_about__air_alone() -> None:
    air = Volume(np.full((8, 9, 10), -1000, np.int16), Geometry.from_parts((8, 9, 10), (1, 1, 1)))
    air.array[0, 0, 0] = -700
    (doubt,) = doubts_about(air)
    assert "air alone" in doubt.what


@pytest.mark.parametrize("low", [-400, -160, -1])
def test_doubts_about__a_scan_clipped_to_a_window(low: int) -> None:
    body = trunk()
    body.array[:, 28:32, 38:42] += 300
    (doubt,) = doubts_about(Volume(body.array.clip(low, 240), body.geometry))
    assert f"of the voxels are exactly {low} HU: the scan was clipped to a window" in doubt.what
    inside = body.array[:, 20:40, 30:50]
    noise = np.arange(inside.size, dtype=np.int16).reshape(inside.shape) % 97 - 80
    noisy = Volume((inside + noise).astype(np.int16), Geometry.from_parts(inside.shape, (5, 5, 5)))
    assert not any("clipped" in doubt.what for doubt in doubts_about(noisy)), "a box of tissue has no air either"


def test_warn_of__by_category() -> None:
    body = trunk()
    with pytest.warns(GeometryWarning, match=r"^scan: the body is cut along Left .*order of the axes"):
        warn_of(doubts_about(swapped(body, SWAPS[0])), "scan")
    with pytest.warns(ValuesWarning, match="clipped to a window"):
        warn_of(doubts_about(Volume(body.array.clip(-160, 240), body.geometry)), "scan")


def test_prepare__tells_doubts(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", swapped(trunk(), SWAPS[0]))
    report = prepare([tmp_path / "a.nii.gz"], tmp_path / "store", PrepareConfig(salt="test"), workers=0)
    ((name, warning),) = report.warnings
    assert name in report.prepared
    assert "cut along Left" in warning


def test_doubts_about__real_ct() -> None:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct"
    if not root.is_dir():
        pytest.skip(f"no test data at {root}: set MAESIL_TEST_DATA")
    paths = [path for path in sorted((root / "corpus2mm").glob("*.nii.gz")) if "labels" not in path.name]
    paths += [
        *islice(sorted((root / "openkbp").glob("*[0-9].nii.gz")), 0, None, 20),
        root / "native" / "crlm_1006.nii.gz",
    ]
    scans = {path.name: read(path).reorient("SPL") for path in paths}
    assert len(scans) > 7
    assert {name: doubts_about(scan) for name, scan in scans.items() if doubts_about(scan)} == {}
    found = [bool(doubts_about(swapped(scan, order))) for scan in scans.values() for order in SWAPS[:2]]
    assert np.mean(found) > 0.6


def test_check__the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = trunk()
    write_nifti(tmp_path / "ct.nii.gz", body)
    assert main(["check", str(tmp_path / "ct.nii.gz")]) == 0
    assert "nothing speaks against CT" in capsys.readouterr().out
    write_nifti(tmp_path / "offset.nii.gz", Volume(body.array + np.int16(1024), body.geometry))
    assert main(["check", str(tmp_path / "offset.nii.gz")]) == 1
    shown = capsys.readouterr().out
    assert "no voxel is below 0 HU" in shown
    assert "often 1024: subtract it" in shown
    assert main(["check", str(tmp_path / "offset.nii.gz"), "--json"]) == 1
    assert '"doubts"' in capsys.readouterr().out
    assert main(["check", str(tmp_path / "none.nii.gz")]) == 2


def test_check__of_a_folder_has_a_line_for_every_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = trunk()
    write_nifti(tmp_path / "ct.nii.gz", body)
    write_nifti(tmp_path / "other.nii.gz", trunk(step=4.0))
    assert main(["check", str(tmp_path)]) == 0
    *sound, total = capsys.readouterr().out.splitlines()
    assert sound == [f"sound    {tmp_path / name}" for name in ("ct.nii.gz", "other.nii.gz")]
    assert total == "2 scans: 2 sound, 0 with doubts, 0 refused"
    write_nifti(tmp_path / "offset.nii.gz", Volume(body.array + np.int16(1024), body.geometry))
    (tmp_path / "short.nii.gz").write_bytes((tmp_path / "ct.nii.gz").read_bytes()[:500])
    assert main(["check", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"doubt    \S+/offset\.nii\.gz\n           .*no voxel is below 0 HU.*subtract it\n", shown)
    assert f"refused  {tmp_path / 'short.nii.gz'}\n" in shown
    assert shown.endswith("4 scans: 2 sound, 1 with doubts, 1 refused\n")
    named = [str(tmp_path / name) for name in ("ct.nii.gz", "offset.nii.gz")]
    assert main(["check", *named, "--json"]) == 1
    assert [one["sound"] for one in json.loads(capsys.readouterr().out)] == [True, False]
    capsys.readouterr()
    assert main(["check", *named, "--series", "1"]) == 2
    assert "several scans are given" in capsys.readouterr().err
    assert main(["check"]) == 2
    assert "no scan is given" in capsys.readouterr().err


def test_check__of_a_folder_leaves_labels_and_copies_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ct", "ct_labels", "second/ct"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_nifti(tmp_path / f"{name}.nii.gz", trunk())
    main(["check", str(tmp_path)])
    assert capsys.readouterr().out.endswith("1 label file skipped\n2 scans: 2 sound, 0 with doubts, 0 refused\n")
    lone = tmp_path / "masks" / "ct.nii.gz"
    lone.parent.mkdir()
    write_nifti(lone, trunk())
    main(["check", str(tmp_path)])
    shown = capsys.readouterr().out
    assert (
        f"1 file taken for labels because of the name, folder or header, without a scan: {lone}; rename a CT" in shown
    )
    assert "2 label files skipped\n" in shown, "each is counted once"


def test_check__counts_files_of_a_scan_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        write_series(tmp_path / str(number), number)
    (tmp_path / "1" / "11.dcm").write_bytes(b"")
    assert main(["check", str(tmp_path)]) == 1
    assert f"refused  {tmp_path / '1' / '11.dcm'}\n" in capsys.readouterr().out
    assert main(["check", str(tmp_path), "--json"]) == 1
    assert [one["sound"] for one in json.loads(capsys.readouterr().out)] == [True, True, False]
    assert main(["check", str(tmp_path / "1")]) == 1, "a folder of one series"
    assert "refused  " in capsys.readouterr().out


def test_check__of_a_folder_that_cannot_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "brain.mgz").touch()
    assert main(["check", str(tmp_path / "a")]) == 1
    shown = capsys.readouterr().out
    assert f"refused  {tmp_path / 'a' / 'brain.mgz'}\n" in shown
    assert shown.endswith("1 scan: 0 sound, 0 with doubts, 1 refused\n")
    assert main(["check", str(tmp_path / "a"), "--json"]) == 1
    assert [one["sound"] for one in json.loads(capsys.readouterr().out)] == [False]
    write_nifti(tmp_path / "a" / "ct.nii.gz", trunk())
    assert main(["check", str(tmp_path / "a")]) == 1, "a scan was left out"


def test_check__of_slices_that_are_a_series_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, plane in enumerate(trunk(step=2.0).array[:6]):
        write_slice(tmp_path / f"{index}.dcm", plane, index, {"SeriesInstanceUID": f"1.{index + 1}", "PatientID": "p"})
    assert main(["check", str(tmp_path)]) == 1
    assert "refused" in capsys.readouterr().out


def test_check__of_a_folder_without_ct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mr").mkdir()
    for index, plane in enumerate(trunk(step=2.0).array[:6]):
        write_slice(tmp_path / "mr" / f"{index}.dcm", plane, index, {"Modality": "MR"})
    assert main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("0 scans: 0 sound, 0 with doubts, 0 refused\n")
    write_series(tmp_path / "ct", 1)
    assert main(["check", str(tmp_path)]) == 0, "what is no CT is left out"


def test_check__of_labels_alone_has_the_exit_code_of_its_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nifti(tmp_path / "ct_labels.nii.gz", trunk())
    assert main(["check", str(tmp_path)]) == 2
    assert "no scan was found" in capsys.readouterr().err
    main(["check", "--help"])
    assert "2: no scan was found" in " ".join(capsys.readouterr().out.split())


def test_check__of_a_scan_without_a_decoder_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", trunk())
    usual = examine_scan

    def examined(scan: Path, **how: Any) -> ScanFacts:
        if scan.name == "a.nii.gz":
            raise MissingExtraError("this needs a decoder", fix="install it")
        return usual(scan, **how)

    monkeypatch.setattr("maesil.datasets.checking.examine_scan", examined)
    assert main(["check", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "a.nii.gz\n           this needs a decoder; install it\nsound" in shown
    assert shown.endswith("2 scans: 1 sound, 0 with doubts, 1 refused\n")


def write_series(folder: Path, number: int) -> None:
    """A DICOM series of the trunk, one file a slice."""
    folder.mkdir()
    for index, plane in enumerate(trunk(step=2.0).array[:12]):
        write_slice(folder / f"{index}.dcm", plane, index, {"SeriesInstanceUID": f"1.{number}", "PatientID": "p"})


def test_check__takes_the_flags_that_its_fixes_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one").mkdir()
    for index, plane in enumerate(trunk(step=2.0).array[:12]):
        position = [0.0, 0.0, 2.5 * index + (index > 5)]
        write_slice(tmp_path / "one" / f"{index}.dcm", plane, index, {"ImagePositionPatient": position})
    for scans in (tmp_path / "one", tmp_path):
        assert main(["check", str(scans)]) != 0
        told = capsys.readouterr()
        assert "--resample-uneven" in told.out + told.err
        main(["check", str(scans), "--resample-uneven"])
        assert "they were resampled to every 2.50 mm" in capsys.readouterr().out


def test_check__of_a_dicom_folder_and_of_a_folder_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "one", 1)
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "one"), "one", "./one/"):
        main(["check", name])
        assert capsys.readouterr().out.startswith("voxels       12 x 60 x 80 of 2.5 x 2 x 2 mm")
    write_series(tmp_path / "two", 2)
    main(["check", str(tmp_path)])
    shown = capsys.readouterr().out
    assert f"{tmp_path / 'two'}, series 1.2\n" in shown
    assert "2 scans: " in shown
    write_slice(tmp_path / "one" / "other.dcm", trunk().array[0], 0, {"SeriesInstanceUID": "1.3", "PatientID": "p"})
    main(["check", str(tmp_path / "one"), "--series", "1.1"])
    assert capsys.readouterr().out.startswith("voxels       12 x 60 x 80")
