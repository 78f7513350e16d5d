"""`python -m benchmarks step` on a tiny geometry: it runs, it says what it should, and its formula is the counter's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import step
from benchmarks.__main__ import main
from benchmarks.harness import Apart

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid", "ignore::DeprecationWarning")
ROOT = Path(__file__).resolve().parents[2]


def record(out: Path, *words: str) -> dict[str, Any]:
    assert main(["step", "--size", "tiny", "--device", "cpu", "--out", str(out), *words]) == 0
    found: dict[str, Any] = json.loads((out / "step-trial.json").read_text())
    return found


def test_step__is_one_command_that_prints_json(tmp_path: Path) -> None:
    words = ["--size", "tiny", "--device", "cpu", "--threads", "1", "--parts", "race", "--rounds", "1"]
    words += ["--only", "maesil, bf16", "--json", "--out"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "step", *words, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "step-trial.json").read_text())
    assert str(tmp_path) in printed["command"]  # as it was given, and nothing else of the machine's folders
    assert str(Path.home()) not in json.dumps(printed["machine"])


def test_step__races_ours_beside_monais(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    names = ["MONAI, fp32", "MONAI, bf16", "maesil, bf16, freed memory given back"]  # each in a process of its own
    ballast = torch.ones(2**28)  # a GiB here is none in the processes that are measured
    found = record(tmp_path, "--parts", "race", "--rounds", "1", "--only", ";".join(names))
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == names
    assert rows["MONAI, fp32"]["times_faster"] == 1.0
    assert "dtypes match" in rows["MONAI, bf16"]["note"]  # a row that says why there is no figure
    assert rows["MONAI, bf16"]["seconds"] is None
    assert [limit["name"] for limit in found["limits"]] == ["matrix product, fp32", "matrix product, bf16"]
    for name in names[2:]:
        row = rows[name]
        assert row["limit"].endswith("bf16" if "bf16" in name else "fp32")
        assert 0 < row["share_of_limit"] < 1
        assert row["more"]["superpatches_per_s"] == pytest.approx(1 / row["seconds"])
        assert row["rounds"] == [row["seconds"]]
        assert 0.1 < row["peak_gib"] < ballast.nbytes / 2**30
    assert (tmp_path / "step-trial.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--parts", "race,racing"], "there is no 'racing'"),
        (["--only", "maesil, bf61"], "there is no 'maesil, bf61'"),
    ],
)
def test_step__says_what_it_does_not_know(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["step", "--size", "tiny", *words])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "step"),
        (["--rounds", "7"], "step"),
        (["--parts", "profile"], "step-trial"),
        (["--parts", "profile", "--name", "x"], "x"),
    ],
)
def test_step__only_the_usual_run_takes_the_records_name(
    words: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(step, "measure", lambda options: asked.append(options.name))
    step.main(words)
    assert asked == [name]


def test_step__a_share_is_of_the_matrix_product_of_the_same_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter([step.Turn(1.0, 1.0, 1e12), step.Turn(4.0, 3.0, 0.25e12), step.Turn(2.0, 2.0, 0.5e12)])
    monkeypatch.setattr(step, "apart", lambda *_: SimpleNamespace(value=next(turns)))
    setting = step.Setting(step.SIZES["tiny"], "cpu", 1, 1)
    (row,), (limit,) = step._race(setting, ["maesil, fp32"], 3)
    flops = step.model_flops("maesil, fp32", setting)
    assert flops is not None
    assert row.share_of_limit == pytest.approx(flops / 1e12)  # however fast the machine was in a turn
    assert (row.seconds, row.peak_gib, limit.rate) == (2.0, 3.0, 500.0)


@pytest.mark.parametrize("depth", ["2", "3"])
def test_step__the_formula_of_flops_is_pytorchs_count(tmp_path: Path, depth: str) -> None:
    pytest.importorskip("monai")
    rows = record(tmp_path, "--parts", "flops", "--decoder-depth", depth)["rows"]
    assert [row["name"] for row in rows] == list(step.COUNTED)
    for row in rows[1:]:
        assert row["more"]["formula_to_counted"] == 1.0


@pytest.mark.slow
def test_step__grows_over_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(function: Callable[..., step.Turn], *arguments: Any) -> Apart[step.Turn]:
        return Apart(function(*arguments), start_gib=0.5, peak_gib=1.0, seconds=1.0)

    monkeypatch.setattr(step, "apart", here)  # the race is timed apart: six starts are most of a minute
    rows = record(tmp_path, "--parts", "tokens")["rows"]
    assert {row["group"] for row in rows} == {f"growth: {name}" for name in step.GROWING}
    for row in rows:
        assert row["seconds"] > 0
        assert row["more"]["tokens"] in (8, 64, 512)
    assert (tmp_path / "step-trial.png").stat().st_size > 1000


def test_step__tries_batches_until_memory_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = step.CONTENDERS["maesil, bf16"]

    def small_memory(setting: step.Setting) -> step.Step:
        if setting.batch > 2:
            raise torch.OutOfMemoryError("no more")
        return whole(setting)

    monkeypatch.setitem(step.CONTENDERS, "maesil, bf16", small_memory)
    monkeypatch.setattr(step, "COMPILED", (False,))  # a compiler takes a minute
    rows = record(tmp_path, "--parts", "batches", "--batches", "1,2,4,8", "--only", "maesil, bf16")["rows"]
    assert [row["name"] for row in rows] == ["batch 1", "batch 2", "batch 4"]
    assert [row["note"] for row in rows] == ["", "", "out of memory"]
    assert rows[1]["more"]["superpatches_per_s"] == pytest.approx(2 / rows[1]["seconds"])


def test_step__profiles_a_step_by_operator(tmp_path: Path) -> None:
    rows = record(tmp_path, "--parts", "profile", "--only", "maesil, fp32")["rows"]
    assert "aten::mm" in {row["name"] for row in rows}
    assert 0.3 < sum(row["more"]["share_of_step"] for row in rows) <= 1.0 + 1e-9


def test_step__takes_attention_apart(tmp_path: Path) -> None:
    found = record(tmp_path, "--parts", "attention")
    names = {row["name"] for row in found["rows"] if row["group"] == "attention, bf16"}
    assert {"PyTorch's kernel, forwards", "blocked products, backwards", "exponentials alone"} <= names
    assert len(found["rows"]) == 2 * len(names)
    for row in found["rows"]:
        assert row["seconds"] > 0
        assert ("gflop_per_s" in row["more"]) == (row["name"] != "exponentials alone")
    assert [limit["name"] for limit in found["limits"]] == ["matrix product, fp32", "matrix product, bf16"]
