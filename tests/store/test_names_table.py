from __future__ import annotations

import csv
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from maesil.datasets import Scan
from maesil.store.names_table import names_path, places_in, write_names

HASH = "0123456789abcdef"
HIDDEN = Scan(HASH, "scans", "p", Path("/data/Doe Jane/ct.nii.gz"), shown=f"scan {HASH}")
SERIES = Scan("f" * 16, "scans", "q", Path("/data/Doe"), "1.2.3", shown="scan " + "f" * 16)
PUBLIC = Scan("set-a", "set", "a", Path("/data/set/a.nii.gz"), shown="a.nii.gz")


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_write_names__lists_hashed_names_beside_the_store(tmp_path: Path) -> None:
    written = write_names(tmp_path / "store", [HIDDEN, PUBLIC])
    assert written == str(names_path(tmp_path / "store")) == str(tmp_path / "store-names.private.csv")
    assert rows(written) == [{"scan_id": HASH, "patient": "p", "source": "/data/Doe Jane/ct.nii.gz", "series": ""}]
    again = write_names(tmp_path / "store", [SERIES])  # a later call adds its own
    assert again == written
    assert [row["series"] for row in rows(written)] == ["", "1.2.3"]


def test_write_names__a_name_that_the_store_has_from_other_files_keeps_them(tmp_path: Path) -> None:
    write_names(tmp_path / "store", [HIDDEN])
    moved = replace(HIDDEN, path=Path("/data/other/ct.nii.gz"))
    written = write_names(tmp_path / "store", [moved, SERIES], keep={HASH})
    assert written is not None
    assert [row["source"] for row in rows(written)] == ["/data/Doe Jane/ct.nii.gz", "/data/Doe"]
    assert places_in(tmp_path / "store") == {HASH: "/data/Doe Jane/ct.nii.gz", "f" * 16: "/data/Doe, series 1.2.3"}
    write_names(tmp_path / "store", [moved])
    assert rows(written)[0]["source"] == "/data/other/ct.nii.gz"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_write_names__is_for_the_user_alone(tmp_path: Path) -> None:
    written = write_names(tmp_path / "store", [HIDDEN])
    assert written is not None
    assert stat.S_IMODE(Path(written).stat().st_mode) == 0o600


def test_write_names__nothing_hashed_is_no_file(tmp_path: Path) -> None:
    assert write_names(tmp_path / "store", [PUBLIC]) is None
    assert list(tmp_path.iterdir()) == []


def test_write_names__a_folder_that_takes_no_file_is_no_error(tmp_path: Path) -> None:
    names_path(tmp_path / "store").mkdir()
    assert write_names(tmp_path / "store", [HIDDEN]) is None
