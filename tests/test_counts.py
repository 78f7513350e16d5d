"""Counts read as people write them, in every message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import maesil
from maesil.counts import count_of, some_of
from maesil.screen import prepare_text
from maesil.store.label_classes import LabelClass
from maesil.store.prepare import PrepareReport


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("scan",), "1 scan"),
        (0, ("scan",), "0 scans"),
        (2, ("scan",), "2 scans"),
        (1200, ("superpatch", "superpatches"), "1,200 superpatches"),
        (1, ("file was", "files were"), "1 file was"),
    ],
)
def test_count_of__is_singular_for_one(number: int, words: tuple[str, ...], expected: str) -> None:
    assert count_of(number, *words) == expected


def test_some_of__says_where_the_whole_list_is() -> None:
    assert some_of(["a", "b"], 2, "all in x.json") == "a, b"
    assert some_of(["a", "b", "c"], 2, "all in x.json") == "a, b and 1 more (all in x.json)"
    assert some_of(["a", "b", "c"], 1) == "a and 2 more"


def test_prepare_text__says_where_a_long_list_of_classes_is_whole() -> None:
    here, nowhere = [
        [LabelClass(f"{kind}{number}", number, scans, True, background=1, unmarked=1) for number in range(30)]
        for kind, scans in (("a", 1), ("b", 0))
    ]
    report = PrepareReport(("a",), (), (), labels=0, labelled=1, classes=(*here, *nowhere))
    cut = [line for line in prepare_text(report, Path("store")).splitlines() if " more" in line]
    assert len(cut) == 4
    assert all("and 10 more (--json lists all)" in line for line in cut)


def test_prepare_text__many_files_of_a_folder_are_one_line() -> None:
    alone = ("other/z.nii.gz", "folder", "one file")
    several = [(f"scans/{number}.nii.gz", "folder", "one file") for number in range(1, 5)]
    lines = prepare_text(PrepareReport((), (), (), labels=0, matched=(*several, alone)), Path("store")).splitlines()
    assert lines[:2] == ["4 sources in scans: folder (one file)", "other/z.nii.gz: folder (one file)"]
    lines = prepare_text(PrepareReport((), (), (), labels=0, matched=tuple(several[:3])), Path("store")).splitlines()
    assert lines[0] == "scans/1.nii.gz: folder (one file)"


def test_prepare_text__of_one_scan() -> None:
    text = prepare_text(PrepareReport(("a",), (), (), labels=1), Path("store"))
    assert text.splitlines() == [
        "1 scan prepared, 0 already there: store",
        "1 label file skipped, as --labels was not given",
    ]
    spaced = prepare_text(PrepareReport(("a",), (), (), labels=0, voxels="2 mm isotropic"), Path("store"))
    assert spaced == "1 scan prepared, 0 already there, 2 mm isotropic: store"


def test_messages__have_no_bracketed_plural() -> None:
    files = Path(maesil.__file__).parent.rglob("*.py")
    bracketed = re.compile(r"(?<!http)\((s|es|ies)\)")
    lines = [line.strip() for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if bracketed.search(line)]
