"""The commands as a person meets them: help, errors, exit codes, what goes to which stream."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maesil.cli import COMMANDS, main
from maesil.config import RunConfig, dump_yaml
from maesil.presets import PRESETS


def test_help__explains_the_three_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for step in ("maesil prepare", "maesil pretrain", "maesil evaluate"):
        assert step in shown
    assert all(f"  {name}" in shown for name in COMMANDS)
    assert main([]) == 2


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help__every_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"maesil {command}" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepair"], "did you mean 'prepare'?"),
        (["pretrain", "papr", "--run", "x"], "did you mean 'paper'?"),
        (["pretrain", "--run", "x"], "no preset is named"),
        (["pretrain", "demo", "--run", "x"], "no store is given"),
        (["pretrain", "demo", "--run", "x", "--data.store", "nowhere"], "there is no store here"),
        (["pretrain", "demo", "--run", "x", "--masking.name", "duel"], "did you mean 'dual'?"),
        (["prepare", "nowhere", "--out", "store"], "nowhere"),
        (["evaluate", "nowhere"], "this run does not exist"),
        (["datasets", "nowhere"], "this source does not exist"),
        (["compare", "nowhere"], "a folder to write must be given"),
        (["compare", "nowhere", "--out", "x"], "there is no store here"),
        (["compare", "nowhere", "--out", "x", "--models", "vea"], "did you mean 'vae'?"),
        (["compare", "nowhere", "--out", "x", "--models", "ae", "--preset", "bottlenecks"], "give one of them"),
        (["compare", "nowhere", "--out", "x", "--budget", "hours=2"], "is no budget"),
        (["compare", "nowhere", "--out", "x", "--beside", "dmo"], "did you mean 'demo'?"),
        (["report", "nowhere"], "scores cannot be read"),
        (["reconstruct", "nowhere", "scan.nii.gz", "--out", "x.nii.gz"], "this run does not exist"),
        (["reconstruct", "nowhere", "scan.nii.gz", "--out", "x.png"], "no NIfTI file name"),
    ],
)
def test_errors__are_messages_with_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_errors__a_wrong_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "demo", "--run", "x", "--train.stepz", "3"]) == 2
    printed = capsys.readouterr()
    assert "--train.stepz" in printed.err + printed.out


def test_import__is_quick_and_loads_no_torch() -> None:
    check = "import maesil, maesil.cli, sys; assert not {'torch', 'zarr', 'nibabel', 'SimpleITK'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_doctor__json_is_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"maesil", "python", "torch", "CPU cores", "GPU", "memory", "LPIPS weights", "sample CT"} <= set(found)


def test_datasets__prints_table_1_and_writes_the_list(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scans.json"
    assert main(["datasets", str(scans), "--out", str(out), "--table", str(tmp_path / "t1.md")]) == 0
    printed = capsys.readouterr()
    assert "Table I" in printed.out
    assert "folder (everything readable in it)" in printed.err
    assert f"maesil prepare {out}" in printed.err.replace("\n", " ")
    assert main(["datasets", str(scans), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["collections"][0]["scans"] == 4


@pytest.mark.slow
def test_compare__through_the_command(
    tiny_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS._parts, "demo", lambda: tiny_config)
    words = ["compare", str(tiny_config.data.store), "--models", "maesil,mean", "--beside", "demo"]
    words += ["--budget", "steps=2", "--protocol.lpips", "None", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "### Table II, masked voxels (1 scan of 1 patient)" in printed.out
    assert "index.html" in printed.err
    assert (tmp_path / "out" / "table3.tex").is_file()


def test_masks__refuses_what_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["masks", "--out", str(tmp_path / "masks.txt")]) == 2
    assert "end its name in one of: .png" in capsys.readouterr().err


def test_masks__draws_a_picture(tmp_path: Path) -> None:
    assert main(["masks", "--out", str(tmp_path / "masks.png"), "--grid", "8", "8", "8"]) == 0
    assert (tmp_path / "masks.png").read_bytes()[:4] == b"\x89PNG"


def test_path__prepare_pretrain_evaluate_report_reconstruct(
    scans: Path, tiny_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three steps and what follows, through the commands, on small scans; one of them is bad."""
    import nibabel

    sources = tmp_path / "sources"
    sources.mkdir()
    for name in "abcd":
        (sources / f"{name}.nii.gz").write_bytes((scans / f"{name}.nii.gz").read_bytes())
    (sources / "bad.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:2000])
    store, run = tmp_path / "store", tmp_path / "run"
    prepare = ["prepare", str(sources), "--out", str(store), "--workers", "0", "--spacing-mm", "2", "--json"]
    assert main([*prepare, "--salt", "s", "--dataset", "set"]) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert len(report["prepared"]) == 4
    assert "bad.nii.gz" in printed.err
    assert json.loads((store / "quarantine.jsonl").read_text())["source"] == "bad.nii.gz"

    settings = tmp_path / "settings.yaml"
    settings.write_text(dump_yaml(tiny_config))
    words = ["pretrain", "--config", str(settings), "--data.store", str(store), "--run", str(run), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"

    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(run), "--json", str(scores), "--protocol.lpips", "None"]) == 0
    table = capsys.readouterr().out
    rows = json.loads(scores.read_text())["scores"]
    assert {row["model"] for row in rows} == {"maesil", "kriging", "interpolation", "mean"}
    assert {row["region"] for row in rows} == {"whole", "masked", "composite"}
    assert {row["scan"] for row in rows} == {next(row["scan"] for row in rows)}
    assert "protocol" in table
    assert all((run / "evaluation" / "test" / f"table.{kind}").is_file() for kind in ("md", "tex", "csv"))

    assert main(["report", str(run)]) == 0
    assert (run / "report.html").stat().st_size > 20_000

    out = tmp_path / "rebuilt.nii.gz"
    assert main(["reconstruct", str(run), str(sources / "d.nii.gz"), "--out", str(out), "--composite"]) == 0
    scan, rebuilt, mask = (nibabel.load(path) for path in (sources / "d.nii.gz", out, tmp_path / "rebuilt_mask.nii.gz"))
    assert rebuilt.shape == scan.shape == mask.shape
    assert abs(rebuilt.affine - scan.affine).max() < 1e-4
    hidden = mask.get_fdata() > 0
    assert 0.6 < hidden.mean() < 0.9
    assert (rebuilt.get_fdata()[~hidden] == scan.get_fdata()[~hidden]).all()
