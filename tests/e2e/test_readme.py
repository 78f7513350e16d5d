"""README's three commands on small folders of scans, whatever their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_slices import write_slice
from maesil.cli import main
from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.evaluation.scores import read_scores

SMALL = (
    "--model.superpatch", "16", "16", "16", "--model.encoder-width", "24", "--model.encoder-depth", "1",
    "--model.encoder-heads", "2", "--model.decoder-width", "12", "--model.decoder-depth", "1",
    "--model.decoder-heads", "2", "--efficiency.threads", "1", "--efficiency.accelerator", "cpu",
    "--efficiency.precision", "32-true", "--train.steps", "2", "--train.batch", "1", "--monitor.validate-every", "1",
    "--monitor.image-every", "0",
)  # fmt: skip


def nifti(folder: Path, number: int, hu: np.ndarray) -> None:
    write_nifti(folder / f"case_{number:02d}.nii.gz", Volume(hu, Geometry.from_parts(hu.shape, (1.5, 1.5, 1.5))))


def dicom(folder: Path, number: int, hu: np.ndarray) -> None:
    """A series of slices of a patient, in a folder of its own."""
    (series := folder / f"patient {number}" / "CT").mkdir(parents=True)
    identity = {
        "PatientID": f"P{number}",
        "StudyInstanceUID": f"1.2.3.{number}",
        "SeriesInstanceUID": f"1.2.4.{number}",
    }
    for index, plane in enumerate(hu[::2]):
        unique = f"1.2.5.{number}.{index}"
        write_slice(series / f"{index}.dcm", plane, index, {**identity, "SOPInstanceUID": unique})


@pytest.fixture
def prepared(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A store of as many scans as the test asks for, from files of the kind that it asks for."""
    (folder := tmp_path / "scans").mkdir()
    count, write = request.param
    for number in range(count):
        hu = np.random.default_rng(number).normal(40, 60, (20, 18, 22)).astype(np.int16)
        hu[:4] = -1000
        write(folder, number, hu)
    assert main(["prepare", str(folder), "--out", str(tmp_path / "store"), "--workers", "0"]) == 0
    return tmp_path / "store"


def evaluate_words(said: str) -> list[str]:
    """The command that `pretrain` prints as the next one."""
    (line,) = (line for line in said.replace("\n", " ").split("next: maesil ") if line.startswith("evaluate"))
    return line.split()


@pytest.mark.parametrize(
    "prepared",
    [(count, write) for write in (nifti, dicom) for count in (2, 3, 5, 24)],
    indirect=True,
    ids=lambda kind: f"{kind[0]} {kind[1].__name__}",
)
def test_readme__three_commands_work(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "base", "--data.store", str(prepared), "--run", "run", *SMALL]) == 0
    assert evaluate_words(capsys.readouterr().err) == ["evaluate", "run"]
    assert main(["evaluate", "run", "--protocol.lpips", "None", "--protocol.mask-draws", "1"]) == 0
    assert read_scores(tmp_path / "run" / "evaluation" / "test" / "scores.jsonl")


@pytest.mark.parametrize("prepared", [(1, nifti)], indirect=True)
def test_readme__one_patient_is_told_what_to_do(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "base", "--data.store", str(prepared), "--run", "run", *SMALL]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "the only patient is trained on" in said
    assert "--data.holdout.by superpatch" in said
    assert "next: maesil evaluate" not in said
    assert main(["evaluate", "run"]) == 2
    assert "--data.holdout.by superpatch" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("prepared", [(2, nifti)], indirect=True)
def test_readme__without_a_test_patient_validation_is_scored(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ("--data.holdout.patients.overrides", "case_00", "train", "case_01", "val")
    assert main(["pretrain", "base", "--data.store", str(prepared), "--run", "run", *SMALL, *chosen]) == 0
    assert evaluate_words(capsys.readouterr().err) == ["evaluate", "run", "--split", "val"]
    assert main(["evaluate", "run"]) == 2
    assert "--split val" in " ".join(capsys.readouterr().err.split())
