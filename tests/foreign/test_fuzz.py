"""Damaged headers are read or refused: no traceback, no hang, no crash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from foreign import fuzz
from maesil.cli import main
from maesil.ct.readers.nrrd import Nrrd

RUNS = 200


def test_campaign__nothing_but_volumes_and_refusals() -> None:
    done = fuzz.campaign(RUNS, seed=1)
    assert done.failures == []
    assert done.read + sum(done.refused.values()) == RUNS
    assert done.read >= RUNS // 20, "the damage is too heavy to test more than the first check"
    assert len(done.refused) >= 10


def test_campaign__is_the_same_for_a_seed() -> None:
    first, second = (fuzz.campaign(24, seed=5) for _ in range(2))
    assert (first.read, first.refused) == (second.read, second.refused)


def test_campaign__finds_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise IndexError("a bug")

    monkeypatch.setattr(Nrrd, "read", broken)
    assert "IndexError: a bug" in fuzz.campaign(6, seed=0).failures[0]


def test_commands__damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same through `prepare` and `datasets`: one call each over many damaged files, beside a sound one."""
    random, tree = np.random.default_rng(3), tmp_path / "set"
    (tmp_path / "sound").mkdir()
    files = fuzz.sound_files(tmp_path / "sound")
    tree.mkdir()
    shutil.copy(files[0], tree / "sound.nii")
    for number in range(30):
        original = files[number % 4]
        name = f"{number}{''.join(original.suffixes)}"
        (tree / name).write_bytes(fuzz.damaged(original.read_bytes(), random, 400))
    out = tmp_path / "store"
    assert main(["prepare", str(tree), "--out", str(out), "--workers", "0", "--policy", "native"]) == 1
    told = capsys.readouterr().err
    assert main(["datasets", str(tree)]) == 1
    told += capsys.readouterr().err
    assert "please report" not in told
    assert "Traceback" not in told
    assert json.loads((out / "manifest.json").read_text())["scans"]
