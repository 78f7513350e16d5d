"""Nodules as files, on the real case."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from layout_trees import lidc
from maesil.cli import main
from maesil.ct.readers import read
from maesil.datasets.nodule_files import write_nodules
from maesil.datasets.own_files import is_output
from maesil.errors import ConfigError


def test_write_nodules__label_files_hold_the_volumes_of_the_table(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "nodules"
    main(["nodules", str(data_dir / "lidc"), "--out", str(out), "--salt", "s", "--json"])
    printed = json.loads(capsys.readouterr().out)
    with (out / "nodules.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [row["number"] for row in printed["nodules"]]
    (path,) = out.glob("*.nii.gz")
    labels = read(path)
    scan = read(next((data_dir / "lidc").rglob("*.dcm")).parent)
    assert labels.geometry.shape == scan.geometry.shape
    assert np.allclose(labels.geometry.affine, scan.geometry.affine, atol=1e-3)
    voxel = float(np.prod(labels.geometry.spacing_mm))
    for row in rows:
        assert (labels.array == int(row["number"])).sum() * voxel == pytest.approx(float(row["volume_mm3"]), abs=0.1)
    assert int(rows[0]["readers"]) == 4
    assert 1519 < float(rows[0]["volume_mm3"]) < 2266, "between the smallest and the largest reader's"
    assert 1 <= float(rows[0]["malignancy"]) <= 5
    # Soft tissue in lung, where the label says: the slices are in the scan's order.
    assert scan.array[labels.array == 1].mean() > -300


def test_write_nodules__the_agreement_is_a_share(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="agreement is 0"):
        write_nodules([data_dir / "lidc"], tmp_path / "out", agreement=0.0)
    assert not (tmp_path / "out").exists()
    loose, strict = (
        write_nodules([data_dir / "lidc"], tmp_path / str(share), agreement=share, salt="s") for share in (0.25, 1.0)
    )
    assert loose.rows[0].volume_mm3 > strict.rows[0].volume_mm3


@pytest.mark.parametrize("theirs", ["LIDC-IDRI-0314.nii.gz", "nodules.csv"])
def test_write_nodules__replaces_only_what_it_wrote(theirs: str, data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / theirs).write_text("a converted scan, or a table of another kind")
    with pytest.raises(ConfigError, match="is there already, and `maesil nodules` did not write it") as raised:
        write_nodules([data_dir / "lidc"], out, salt="s")
    assert raised.value.where == str(out / theirs)
    assert [path.name for path in out.iterdir()] == [theirs]
    assert (out / theirs).read_text() == "a converted scan, or a table of another kind"
    (out / theirs).unlink()
    first = write_nodules([data_dir / "lidc"], out, salt="s")
    assert write_nodules([data_dir / "lidc"], out, salt="s").rows == first.rows


def test_write_nodules__keeps_corrected_labels(data_dir: Path, tmp_path: Path) -> None:
    """A program keeps the header when it saves a correction, or writes one of its own; the rest is written again."""
    out = tmp_path / "out"
    (path,) = write_nodules([data_dir / "lidc"], out, salt="s").files.values()
    assert not is_output(path), "it is labels"
    assert write_nodules([data_dir / "lidc"], out, agreement=0.75, salt="s").files, "nobody changed it"
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] = 7
    for header in (image.header, None):
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine, header), path)
        corrected = path.read_bytes()
        with pytest.raises(ConfigError, match="corrections would be lost") as raised:
            write_nodules([data_dir / "lidc"], out, salt="s")
        assert raised.value.where == str(path)
        assert path.read_bytes() == corrected
    path.unlink()
    assert write_nodules([data_dir / "lidc"], out, salt="s").files


def test_nodules__scans_without_readings_are_left_out(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lidc(tmp_path / "LIDC-IDRI")
    (real,) = (data_dir / "lidc").iterdir()
    (tmp_path / "LIDC-IDRI" / real.name).symlink_to(real, target_is_directory=True)
    assert main(["nodules", str(tmp_path / "LIDC-IDRI"), "--out", str(tmp_path / "out"), "--salt", "s"]) == 1
    said = capsys.readouterr().err
    assert "no readers' XML names this series" in said
    with (tmp_path / "out" / "nodules.csv").open() as file:
        assert {row["scan_id"] for row in csv.DictReader(file)} == {"LIDC-IDRI-0314"}


def test_nodules__an_output_that_is_a_file_is_one_line(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert main(["nodules", str(data_dir / "lidc"), "--out", str(tmp_path / "out"), "--salt", "s"]) == 2
    assert "the folder cannot be created: File exists" in capsys.readouterr().err
