"""The label-efficiency experiment through the public command, small."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backbones import small_backbone, small_card
from conftest import TINY_MODEL
from labelled import labelled_store
from maesil.cli import main
from maesil.downstream.transfer import Amount, Trial
from maesil.downstream.transfer_page import efficiency_sheet
from maesil.export.targets import export


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    store = labelled_store(tmp_path_factory.mktemp("labelled"))
    encoder = export(small_backbone(TINY_MODEL), small_card(TINY_MODEL), "safetensors", store.parent / "encoder")
    return [
        "compare-transfer", "--init", str(encoder), "--data.store", str(store),
        "--data.holdout.patients.fractions", "1", "0", "0", "--data.holdout.patients.overrides", "d", "test",
        "--model.mode", "linear", "--train.steps", "2", "--train.batch", "1", "--seeds", "2",
        "--efficiency.precision", "32-true", "--efficiency.workers", "0",
    ]  # fmt: skip


def test_command__experiment_and_its_continuation(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*words, "--scans", "1", "--out", str(out)]) == 0
    assert "| 1 scan | 2 x 1 |" in capsys.readouterr().out
    for name in ("table.md", "table.tex", "table.csv", "curve.png", "scores.jsonl", "settings.json", "index.html"):
        assert (out / name).stat().st_size > 100
    page = (out / "index.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert str(tmp_path) not in page
    before = {path: path.stat().st_mtime_ns for path in out.rglob("scored.json")}
    assert len(before) == 4
    assert main([*words, "--scans", "1", "--shares", "0.5", "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished trials are kept"
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert {(row["amount"], row["start"], row["seed"]) for row in rows} == {
        (amount, start, seed)
        for amount in ("1 scan", "50% of superpatches")
        for start in ("pre-trained", "scratch")
        for seed in (0, 1)
    }
    assert main([*words, "--scans", "1", "--out", str(out), "--train.steps", "3"]) == 2
    assert "an experiment with other settings" in capsys.readouterr().err


def test_command__a_trial_that_cannot_be_is_told(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--scans", "9", "--seeds", "1", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "9 scans, scratch, seed 0 failed: 9 labelled scans to train on, there are 3" in printed


def test_command__wrong_calls(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, said in (
        ([*words, "--scans", "1"], "no folder is given"),
        ([*words, "--out", str(tmp_path / "out")], "no amounts of labels"),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--init", "none"], "nothing to compare with"),
    ):
        assert main(wrong) == 2
        assert said in capsys.readouterr().err


def test_efficiency_sheet__differences_in_pairs() -> None:
    def trial(start: str, seed: int, dice: float) -> Trial:
        row = {"scan": "d", "patient": "d", "class": "liver", "dice": dice, "hd95_mm": 1.0, "nsd": 1.0}
        return Trial(Amount(scans=2), start, seed, (row, {**row, "class": "absent", "dice": float("nan")}))

    trials = [trial("pre-trained", 0, 0.8), trial("scratch", 0, 0.5), trial("pre-trained", 1, 0.6)]
    sheet = efficiency_sheet([*trials, replace(trial("scratch", 1, 0.0), rows=(), failed="no such thing")])
    (row,) = sheet.rows
    assert row[:2] == ("2 scans", "1 x 1")
    assert row[2].startswith("0.700 ± 0.141")
    assert row[3:] == ("0.500", "+0.300")
    assert any("failed: no such thing" in note for note in sheet.notes)
