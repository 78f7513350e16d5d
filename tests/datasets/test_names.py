from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert safe_name("set", "a b/..") == "set-a_b"
    assert safe_name("..") == "unnamed"
    assert not safe_name(".hidden").startswith(".")


@given(st.text(st.characters(max_codepoint=127)))
def test_safe_name__of_ascii_is_that_of_earlier_versions(name: str) -> None:
    assert safe_name(name)[:100] == (re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "unnamed")[:100]


@pytest.mark.parametrize(
    ("name", "start"), [("Ärzte", "Arzte-"), ("Łódź", "odz-"), ("환자01", "01-"), ("김민준", ""), ("Ωmega", "mega-")]
)
def test_safe_name__keeps_letters_beyond_ascii(name: str, start: str) -> None:
    assert re.fullmatch(rf"{start}[0-9a-f]{{8}}", safe_name(name))
    assert safe_name(unicodedata.normalize("NFD", name)) == safe_name(name)


@given(st.sets(st.text(st.characters(min_codepoint=128, categories=["L"]), min_size=1), min_size=2, max_size=20))
def test_safe_name__two_names_are_never_alike(names: set[str]) -> None:
    composed = {unicodedata.normalize("NFC", name) for name in names}
    assert len({safe_name(name) for name in composed}) == len(composed)


def test_safe_name__bytes_that_are_no_text_are_a_name() -> None:
    assert safe_name("a\udcff") != safe_name("a")


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
