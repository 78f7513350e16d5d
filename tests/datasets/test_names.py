from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from maesil.datasets.names import LONGEST_NAME, case_parts, ending_of, holds_labels, patient_name, safe_name, stem_of
from maesil.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "ending", "stem"),
    [
        ("a.nii.gz", ".nii.gz", "a"),
        ("A.B.NII", ".nii", "A.B"),
        ("a.nrrd", ".nrrd", "a"),
        ("a.mhd", ".mhd", "a"),
        ("a.raw", None, "a.raw"),
        ("readme", None, "readme"),
    ],
)
def test_ending_of__names_the_format(name: str, ending: str | None, stem: str) -> None:
    assert ending_of(name) == ending
    assert stem_of(name) == stem


@pytest.mark.parametrize(
    "path",
    [
        "a_labels.nii.gz",
        "sts_001_tumour.nii.gz",
        "mask.nii.gz",
        "s0001/segmentations/liver.nii.gz",
        "labelsTr/case_1.nii.gz",
        "label/label0001.nii.gz",
        "case-seg.nrrd",
        "deep/label/img0001.nii.gz",
    ],
)
def test_holds_labels__is_true_of_label_files(path: str) -> None:
    assert holds_labels(PurePosixPath(path))


@pytest.mark.parametrize(
    "path", ["a.nii.gz", "s0001/ct.nii.gz", "imagesTr/case_1.nii.gz", "masked_patient.nii.gz", "img0001.nii.gz"]
)
def test_holds_labels__is_false_of_scans(path: str) -> None:
    assert not holds_labels(PurePosixPath(path))


def test_case_parts__drops_generic_names() -> None:
    assert case_parts(PurePosixPath("s0001/ct.nii.gz")) == ("s0001",)
    assert case_parts(PurePosixPath("ct.nii.gz")) == ()
    assert case_parts(PurePosixPath("train/a.nii.gz")) == ("train", "a")


def test_safe_name__keeps_what_file_systems_take() -> None:
    assert safe_name("set", "a b/ü..") == "set-a_b"
    assert safe_name("..") == "unnamed"
    assert not safe_name(".hidden").startswith(".")


def test_safe_name__shortens_without_making_two_alike() -> None:
    one, other = safe_name("x" * 300 + "1"), safe_name("x" * 300 + "2")
    assert len(one) <= LONGEST_NAME
    assert one != other


@pytest.mark.parametrize(
    ("path", "pattern", "patient"),
    [
        ("train/a.nii.gz", None, "a"),
        ("s0001/ct.nii.gz", None, "s0001"),
        ("ct.nii.gz", None, None),
        ("p001/early.nii.gz", r"^([^/]+)/", "p001"),
        ("x/BTCV_0012_v.nii.gz", r"BTCV_\d+", "BTCV_0012"),
    ],
)
def test_patient_name__is_the_case_or_what_the_pattern_finds(path: str, pattern: str | None, patient: str) -> None:
    assert patient_name(PurePosixPath(path), pattern) == patient


@pytest.mark.parametrize(("pattern", "says"), [("(", "regular expression"), ("nowhere", "does not match")])
def test_patient_name__refuses_patterns_that_do_not_fit(pattern: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        patient_name(PurePosixPath("a.nii.gz"), pattern)
