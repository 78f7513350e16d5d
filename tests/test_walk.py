from __future__ import annotations

import os
from pathlib import Path

import pytest

from maesil.walk import Unreadable, files_in, walk


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in walk(folder).files]


def test_walk__every_file_in_a_stable_order(tmp_path: Path) -> None:
    made(tmp_path, "b/2", "a/1", "b/c/3", "0")
    assert names(tmp_path) == ["0", "a/1", "b/2", "b/c/3"]
    assert walk(tmp_path / "0").files == (tmp_path / "0",)


def test_walk__leaves_hidden_files_and_stores_out(tmp_path: Path) -> None:
    made(tmp_path, ".Trash/1", "a/.hidden", "a/1", "store/zarr.json", "store/scans/1", "zip/zarr.json.txt")
    assert names(tmp_path) == ["a/1", "zip/zarr.json.txt"]


def test_walk__enters_no_folder_twice(tmp_path: Path) -> None:
    made(tmp_path, "a/1", "b/2")
    for link, target in (("a/up", ".."), ("a/here", "."), ("b/other", "../a"), ("c", "b")):
        (tmp_path / link).symlink_to(target)
    found = walk(tmp_path)
    assert [path.name for path in found.files] == ["1", "2"]
    assert found.unreadable == ()


def test_walk__opens_nothing_that_may_never_end(tmp_path: Path) -> None:
    made(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe.nii.gz")
    (tmp_path / "device").symlink_to("/dev/zero")
    assert names(tmp_path) == ["a"]
    assert files_in(tmp_path) == [tmp_path / "a"]


def test_walk__says_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "a/1", "locked/2")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    listed = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = walk(tmp_path)
    assert [path.name for path in found.files] == ["1"]
    gone = "its target does not exist"
    assert found.unreadable == (
        Unreadable(tmp_path / "gone", gone),
        Unreadable(tmp_path / "locked", "permission denied"),
        Unreadable(tmp_path / "round", gone),
    )
    assert files_in(tmp_path / "locked") == []
