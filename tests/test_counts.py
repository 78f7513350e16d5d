"""Counts read as people write them, in every message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import maesil
from maesil.counts import count_of
from maesil.screen import prepare_text
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
