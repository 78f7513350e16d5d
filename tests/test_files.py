"""Files are replaced whole or not at all."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from maesil.errors import ConfigError, OutputError
from maesil.files import read_json, replacing, require_output, write_json, write_json_lines, write_text


def test_replacing__a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as fresh:
        fresh.write_text("half \udc80", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_write_text__has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    assert write_text(tmp_path / "ours", "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_write_json__a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="the folder cannot be created"):
        write_json(tmp_path / "file" / "a.json", {})
    assert read_json(write_json(tmp_path / "a.json", {"a": 1})) == {"a": 1}


def test_require_output__tells_before_the_work_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, message in (
        (tmp_path, "this is a folder"),
        (tmp_path / "file" / "new" / "a.txt", "a file has its name"),
    ):
        with pytest.raises(ConfigError, match=message):
            require_output(path)
    assert require_output(tmp_path / "new" / "folder" / "a.txt") == tmp_path / "new" / "folder" / "a.txt"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_replacing__what_the_system_refuses_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the file cannot be written: Is a directory"):
        write_text(tmp_path, "x")
    with pytest.raises(OSError, match="No space left"), replacing(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_write_json_lines__has_no_number_that_json_has_not(tmp_path: Path) -> None:
    rows = [{"dice": math.nan, "each": (1.0, np.float64("inf"))}, {"low": {"end": -math.inf}, "name": "a", "n": 2}]
    told = write_json_lines(tmp_path / "rows.jsonl", rows).read_text()
    assert told == '{"dice": "nan", "each": [1.0, "inf"]}\n{"low": {"end": "-inf"}, "name": "a", "n": 2}\n'
