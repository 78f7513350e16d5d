"""The commands as a person meets them: help, errors, exit codes, what goes to which stream."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest
from torch import Tensor

import maesil
from maesil import cli, pipeline
from maesil.cli import COMMANDS, main
from maesil.commands.early import CHECKS
from maesil.commands.finetune import TASKS
from maesil.commands.parsing import console, parse, print_json
from maesil.commands.prepare import Prepare
from maesil.commands.pretrain import Pretrain
from maesil.comparison.model_sets import MODEL_SETS
from maesil.config import RunConfig, dump_yaml
from maesil.ct.geometry import GeometryWarning
from maesil.datasets.layouts import LAYOUTS
from maesil.evaluation.measures import METRICS
from maesil.evaluation.protocol import PROTOCOLS
from maesil.export import TARGETS
from maesil.masking import MASKINGS
from maesil.models import CEILINGS, MODELS, UNTRAINED
from maesil.models.mae import MaskedAutoencoder
from maesil.presets import PRESETS
from maesil.runs.load import load_run
from maesil.sampling.plan import make_plan
from maesil.sampling.regions import regions_of
from maesil.store.scanstore import ScanStore

SOURCE = Path(maesil.__file__).parent


def test_help__explains_the_three_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "`maesil report RUN` writes its page" in shown
    for step in ("maesil prepare", "maesil pretrain", "maesil evaluate"):
        assert step in shown
    assert all(f"  {name}" in shown for name in COMMANDS)
    assert main([]) == 2


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help__every_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert "\n\n\n" not in shown.split("Examples:")[0], "a paragraph that starts with no letter"
    assert f"maesil {command}" in shown


@pytest.mark.parametrize(
    ("command", "listed"),
    [
        ("", [*COMMANDS, *COMMANDS.values(), *TARGETS, *TASKS]),
        ("finetune", [*TASKS, *TASKS.values()]),
        ("export", [*TARGETS, *(purpose for purpose, _ in TARGETS.values()), f"--to {'|'.join(TARGETS)}"]),
        ("datasets", [", ".join(LAYOUTS), f"{'|'.join(LAYOUTS)}"]),
        ("pretrain", [", ".join(PRESETS), ", ".join(MODELS), ", ".join(MASKINGS)]),
        ("evaluate", [", ".join(PROTOCOLS), ", ".join(UNTRAINED)]),
        ("compare", [", ".join(PRESETS), ", ".join(MODEL_SETS), ", ".join((*MODELS, *UNTRAINED, *CEILINGS))]),
    ],
)
def test_help__lists_what_the_catalogues_have(
    command: str, listed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert [text for text in listed if text not in shown] == []


def test_help__says_what_compare_trains_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    shown = " ".join(re.sub("[│|]", " ", capsys.readouterr().out).split())
    assert "Without --models and --preset, those of --preset paper-table." in shown
    assert "Without either, paper-table." in shown


def test_help__has_no_list_by_hand() -> None:
    """Three names of a catalogue in a row in the source of a help are a list that a new name would be missing from."""
    helps = [SOURCE / "cli.py", *(SOURCE / "commands").glob("*.py"), SOURCE / "store" / "settings.py"]
    helps += [*(SOURCE / "tasks").glob("*/config.py"), SOURCE / "pipeline.py"]
    texts = {path: path.read_text(encoding="utf-8") for path in helps}
    for catalogue in (TARGETS, LAYOUTS, PRESETS, PROTOCOLS, MASKINGS, MODELS, METRICS, TASKS):
        names = "|".join(f"[\"'`]?{name}[\"'`]?" for name in catalogue)
        by_hand = re.compile(rf"(?<!\w)(?:(?:{names})(?:, (?:and |or )?| and | or )){{2}}(?:{names})")
        assert {path.name: by_hand.findall(text) for path, text in texts.items() if by_hand.search(text)} == {}


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"demo", "doctor"}))
def test_errors__a_command_alone_says_what_is_missing(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 2
    said = capsys.readouterr().err
    assert said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", ["check", "evaluate", "compare", "compare-transfer", "publish"])
def test_help__wraps_its_paragraphs(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is longer than the terminal is cut in the middle of a word there, and at the edge of a page."""
    monkeypatch.setenv("COLUMNS", "72")
    assert main([command, "--help"]) == 0
    about = capsys.readouterr().out.split("Examples:")[0]
    assert about.count("\n") > 4
    assert max(map(len, about.splitlines())) <= 72


@pytest.mark.parametrize("words", [["-h"], ["export", "--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_help__to_a_program_that_stops_reading(words: list[str], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    call = [sys.executable, "-m", "maesil.cli", *words]
    surroundings = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(call, env=surroundings, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_help__of_a_command_loads_no_more_than_it_did() -> None:
    commands = ["demo", "datasets", "prepare", "report", "reconstruct", "export", "finetune", "finetune classification"]
    commands += ["embed", "similar", "predict", "masks", "nodules", "doctor"]
    check = (
        "import sys; from maesil.cli import main\n"
        f"for words in {commands}:\n"
        "    assert main([*words.split(), '--help']) == 0\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, stdout=subprocess.DEVNULL)


def test_errors__of_names_and_paths_come_before_torch(tmp_path: Path) -> None:
    calls = {
        "pretrain papr --run x": "did you mean 'paper'?",
        "pretrain --run x": "no preset is given",
        "pretrain --config x.yaml --run x": "cannot read the configuration",
        "pretrain demo --run x --data.store nowhere": "there is no store here",
        "evaluate nowhere": "this run does not exist",
        "report nowhere": "this run does not exist",
        "reconstruct nowhere scan.nii.gz --out x.nii.gz": "this run does not exist",
        "predict nowhere scan.nii.gz --out x.nii.gz": "this run does not exist",
        "export nowhere --to monai --out x": "there is no such folder",
        "embed nowhere store --out x.csv": "there is no such folder",
        "similar nowhere scan": "there is no such file",
        "compare nowhere --out x": "there is no store here",
        "pretrain demo --run x --init demo-2m": "published weights: demo-2mm",
        "compare nowhere --out x --beside=dmo": "did you mean 'demo'?",
        "compare-transfer --init nowhere --out x": "there is no such folder",
        "finetune segmentation --init none --data.store=nowhere --run x": "prepare SCANS --labels --out STORE`",
        "finetune classification --init none --preset bas --run x": "did you mean 'base'?",
        "prepare nowhere --out store": "this source does not exist",
        "datasets nowhere": "this source does not exist",
        "store check nowhere": "there is no store here",
        "pretrain --run there": "there is no run here that has begun",
        "plan demo --data.store nowhere": "there is no store here",
        "plan dem": "did you mean 'demo'?",
        "embed run store other --out x.csv": "this takes one store",
        "compare store other --out x": "this takes one store",
        "view nowhere": "no such file or folder",
        "publish nowhere --out x --about about.md": "this run does not exist",
        "finetune classification --init none --labels nowhere.csv --run x": "no such file or folder",
    }
    check = (
        "import contextlib, io, sys; from maesil.cli import main\n"
        f"for words, message in {calls}.items():\n"
        "    said = io.StringIO()\n"
        "    with contextlib.redirect_stderr(said):\n"
        "        assert main(words.split()) == 2, words\n"
        "    assert message in said.getvalue(), (words, said.getvalue())\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=tmp_path)


def test_help__and_the_pipeline_load_nothing_slow() -> None:
    check = (
        "import sys, maesil.pipeline; from maesil.cli import main\n"
        "assert main(['--help']) == 0\n"
        "slow = {'numpy', 'pandas', 'pydantic', 'torch', 'monai', 'pytorch_lightning', 'matplotlib', 'tyro'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepair"], "did you mean 'prepare'?"),
        (["plan"], "it comes first: maesil plan PRESET"),
        (["evaluate", "there"], "this is a store of scans, not a run"),
        (["evaluate", "runs"], "this folder holds runs, and is none: first, second"),
        (["evaluate", "runs/list.json"], "this is a file, not a run"),
        (["similar", "runs", "scan"], "this is a folder, not a table of features"),
        (
            ["pretrain", "demo", "--run", "x", "--train.steps", "twenty"],
            "--train.steps is twenty: it should be a whole number",
        ),
        (["pretrain", "demo", "--run", "x", "--train.peak-lr=fast"], "--train.peak-lr is fast: it should be a number"),
        (
            ["export", "hf://nowhere", "--to", "monai", "--out", "x"],
            "'hf://nowhere' is not the name of a model on the hub",
        ),
        (["pretrain", "papr", "--run", "x"], "did you mean 'paper'?"),
        (["pretrain", "--run", "x"], "no preset is given"),
        (["pretrain", "--run", "x", "demo"], "it comes first: maesil pretrain PRESET"),
        (["pretrain", "demo", "--run", "x"], "no store is given"),
        (["pretrain", "demo", "--run", "x", "--data.store", "nowhere"], "there is no store here"),
        (["pretrain", "demo", "--run", "x", "--masking.name", "duel"], "did you mean 'dual'?"),
        (["pretrain", "demo", "--run", "x", "--no-model.visible-head"], "did you mean --model.no-visible-head?"),
        (["prepare", "nowhere", "--out", "store"], "nowhere"),
        (["store", "there"], "no action is given before the store"),
        (["store", "there", "--scans", "a"], "fix:   maesil store check there; or repair, or remove with --scans"),
        (["store", "s3://bucket/there"], "files behind an address are not checked"),
        (["store", "check", "s3://bucket/there"], "where: s3://bucket/there"),
        (["store", "removes", "there"], "did you mean remove?"),
        (["store", "nowhere"], "action is nowhere"),
        (["evaluate", "nowhere"], "this run does not exist"),
        (["export", "nowhere", "--to", "moani", "--out", "x"], "did you mean 'monai'?"),
        (["datasets", ".", "--layout", "lidk"], "did you mean 'lidc'?"),
        (["report", "nowhere"], "this run does not exist"),
        (["datasets", "nowhere"], "this source does not exist"),
        (["compare", "there"], "no output folder is given"),
        (["compare", "--data.store", "there", "--out", "x"], "give it first, without a flag: maesil compare STORE"),
        (["compare", "nowhere", "--out", "x"], "there is no store here"),
        (["compare", "there", "--out", "x", "--models", "vea"], "did you mean 'vae'?"),
        (["compare", "there", "--out", "x", "--models", "ae", "--preset", "bottlenecks"], "give only one of them"),
        (["compare", "there", "--out", "x", "--budget", "hours=2"], "is not a budget"),
        (["compare", "there", "--out", "x", "--masking.name", "duel"], "did you mean 'dual'?"),
        (["compare", "nowhere", "--out", "x", "--beside", "dmo"], "did you mean 'demo'?"),
        (["reconstruct", "nowhere", "scan.nii.gz", "--out", "x.nii.gz"], "this run does not exist"),
        (["reconstruct", "demo2mm", "scan.nii.gz", "--out", "x.nii.gz"], "did you mean 'demo-2mm'?"),
        (["pretrain", "demo", "--run", "x", "--init", "headneck4mm"], "did you mean 'headneck-4mm'?"),
        (["reconstruct", "nowhere", "scan.nii.gz", "--out", "x.png"], "not the name of a NIfTI file"),
        (["reconstruct", "nowhere", "scan.nii.gz", "--out", "missing/x.nii.gz"], "mkdir -p missing"),
        (["reconstruct", "nowhere", "x.nii.gz", "--out", "my scans/x.nii.gz"], "mkdir -p 'my scans'"),
        (["datasets", ".", "--out", "there"], "this is a folder, and a file would be written"),
        (["datasets", ".", "--out", "list.txt"], "a JSON file can't be a '.txt' file"),
        (["datasets", ".", "--table", "there"], "this is a folder"),
        (["masks", "--out", "there"], "this is a folder"),
        (["embed", "nowhere", "store", "--out", "table.csv"], "this is a folder"),
        (["embed", "nowhere", "store", "--out", "my scans/x.csv"], "mkdir -p 'my scans'"),
        (["prepare", "x", "--out", "store", "--spacing-mm", "-1"], "--spacing-mm is -1.0: it should be greater than 0"),
        (["pretrain", "demo", "--run", "x", "--train.steps", "0"], "--train.steps is 0: it should be greater than 0"),
        (["pretrain", "demo", "--run", "x", "--train.warmup=2"], "warmup is 2.0"),
    ],
)
def test_errors__are_messages_with_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "manifest.json").touch()
    (tmp_path / "table.csv").mkdir()
    for run in ("first", "second"):
        (tmp_path / "runs" / run / "checkpoints").mkdir(parents=True)
    (tmp_path / "runs" / "list.json").touch()
    assert main(words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert "pydantic" not in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("prepare x --out store --spacing 2", "unknown flag --spacing: did you mean --spacing-mm?"),
        ("prepare x --uot store", "unknown flag --uot: did you mean --out?"),
        ("prepare --spacing=2", "unknown flag --spacing: did you mean --spacing-mm?"),
        ("pretrain demo --run x --train.stepz 3", "unknown flag --train.stepz: did you mean --train.steps?"),
        ("pretrain demo --run x --store s", "unknown flag --store: did you mean --data.store?"),
        ("doctor --qqqq", "unknown flag --qqqq"),
    ],
)
def test_errors__a_wrong_flag_is_one_line_with_the_nearest(
    words: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    command = words.split()[0]
    assert capsys.readouterr().err == f"maesil: {line}\n  fix:   maesil {command} --help\n"


def test_errors__a_wrong_choice_names_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    calls = {
        f"compare {tmp_path} --out x --split tset": ("--split is tset: did you mean test?", "train, val, test"),
        f"pretrain demo --data.store {tmp_path} --run x --data.holdout.by pateint": (
            "--data.holdout.by is pateint: did you mean patient?",
            "patient, superpatch",
        ),
        f"compare {tmp_path} --out x --split qqqq": ("--split is qqqq", "train, val, test"),
    }
    for words, (what, names) in calls.items():
        assert main(words.split()) == 2
        fix = f"one of: {names}; see maesil {words.split()[0]} --help"
        assert capsys.readouterr().err == f"maesil: {what}\n  fix:   {fix}\n"


@pytest.mark.parametrize(
    ("words", "new", "old"),
    [
        ("pretrain demo --run x --efficiency.compile True", "--efficiency.compile", "--efficiency.compile True"),
        ("pretrain demo --efficiency.compile False --run x", "--efficiency.no-compile", "--efficiency.compile False"),
        ("pretrain demo --data.holdout.given=False", "--data.holdout.no-given", "--data.holdout.given False"),
        ("pretrain demo --data.padded_crops True", "--data.padded-crops", "--data.padded-crops True"),
        (
            "compare --model.normalize-targets True --out x",
            "--model.normalize-targets",
            "--model.normalize-targets True",
        ),
        ("evaluate --protocol.clip False", "--protocol.no-clip", "--protocol.clip False"),
    ],
)
def test_errors__a_switch_with_a_value_names_the_new_spelling(
    words: str, new: str, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err == f"maesil: a switch takes no value: write {new} in place of {old}\n"


def test_parse__a_value_that_is_called_true_is_no_switch() -> None:
    assert parse(Prepare, "prepare", ["x", "--out", "y", "--dataset", "True"]).config.dataset == "True"


@pytest.mark.parametrize(
    ("words", "compiled", "given"),
    [
        ([], False, True),
        (["--efficiency.compile"], True, True),
        (["--efficiency.compile", "--data.holdout.no-given"], True, False),
        (["--efficiency.no_compile", "--data.holdout.given"], False, True),
    ],
)
@pytest.mark.parametrize("preset", ["demo", "compiled"])
def test_parse__a_switch_turns_on_and_off(words: list[str], compiled: bool, given: bool, preset: str) -> None:
    config = PRESETS["demo"]()
    if preset == "compiled":  # as from a file: switched on already, to be taken back
        config = replace(config, efficiency=replace(config.efficiency, compile=True))
        words, compiled = [*words, "--efficiency.no-compile"], False
    call = parse(Pretrain, "pretrain", [*words, "--run", "x"], Pretrain(config=config))
    assert (call.config.efficiency.compile, call.config.data.holdout.given) == (compiled, given)
    assert call.run == Path("x")


@pytest.mark.parametrize("name", [*COMMANDS, *(f"finetune-{task}" for task in TASKS)])
def test_commands__are_verbs_of_the_same_name(name: str) -> None:
    if name != "finetune":  # its tasks are the verbs
        assert callable(getattr(pipeline, name.replace("-", "_")))
        assert name.replace("-", "_") in pipeline.__all__


@pytest.mark.parametrize(
    "name", sorted(set(COMMANDS) - {"check", "finetune", "compare", "compare-transfer", "export", "similar"})
)
def test_commands__have_the_options_of_their_verb(name: str) -> None:
    """But for what is printed where, names of protocols, and `doctor --privacy`, which is a verb of its own.

    Those left out read models or a query from words, or take several scans where the verb takes one.
    """
    module = import_module(f"maesil.commands.{name}")
    (command,) = (each for each in vars(module).values() if is_dataclass(each) and each.__module__ == module.__name__)
    options = {option.name for option in fields(command)} - {"json", "table", "reading", "privacy"}
    assert options <= set(inspect.signature(getattr(pipeline, name)).parameters)


@pytest.mark.parametrize("name", sorted({*COMMANDS, *(f"finetune {task}" for task in TASKS)} - {"finetune"}))
def test_help__names_a_default_that_is_nothing(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*name.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    assert "(default: )" not in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if line.startswith("│"))


def test_console__of_many_processes_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", "0")
        console().print("told")
        print_json({"told": rank})
        printed = capsys.readouterr()
        assert printed.err.count("told") == printed.out.count("told") == lines


def test_pretrain__an_empty_store_names_the_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"no scan")
    store = tmp_path / "store"
    assert main(["prepare", str(tmp_path / "bad.nii.gz"), "--out", str(store), "--workers", "0"]) == 1
    assert main(["pretrain", "demo", "--data.store", str(store), "--run", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    assert "this store has no scan" in printed.err
    assert "quarantine.jsonl" in printed.err.rsplit("this store has no scan", 1)[1]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_pretrain__a_loss_that_is_no_number_ends_with_what_caused_it(
    tiny_config: RunConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
) -> None:
    loss = MaskedAutoencoder.loss
    calls = []

    def spoilt(model: MaskedAutoencoder, superpatch: Tensor, *drawn: object) -> Tensor:
        calls.append(superpatch)
        return loss(model, superpatch, *drawn) + (float(value) if len(calls) == 6 else 0.0)

    monkeypatch.setattr(MaskedAutoencoder, "loss", spoilt)
    settings = tmp_path / "settings.yaml"
    settings.write_text(dump_yaml(tiny_config))
    assert main(["pretrain", f"--config={settings}", "--run", str(tmp_path / "run")]) == 1
    printed = capsys.readouterr().err
    assert f"the loss became {value} in step 5" in printed
    store = ScanStore(tiny_config.data.store)  # type: ignore[arg-type]
    plan = make_plan(regions_of(store, tiny_config.data, tiny_config.model.superpatch, "train"), tiny_config.data, 0)
    for place in (plan.place(10), plan.place(11)):  # two superpatches a step
        assert f"{place.scan_id}@{place.origin}" in printed
    assert "Traceback" not in printed
    assert load_run(tmp_path / "run").record["step"] == 3


def test_pretrain__a_run_alone_resumes_with_its_own_settings(
    tiny_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a run"
    run.mkdir()
    (run / "config.yaml").write_text(dump_yaml(replace(tiny_config, train=replace(tiny_config.train, steps=2))))
    assert main(["pretrain", "--run", str(run)]) == 0
    assert f"next: maesil evaluate '{run}'" in capsys.readouterr().err
    assert load_run(run).record["step"] == 2
    assert main(["pretrain", f"--run={run}"]) == 0
    assert "already finished at step 2" in capsys.readouterr().err
    assert main(["pretrain", "--run", str(run), "--seed", "3"]) == 2
    said = capsys.readouterr().err
    assert "other settings: seed is 0 there, 3 here" in said
    assert "another --run (for `maesil demo`: --out);" in said, "a preset is called demo, too"


@pytest.mark.parametrize("words", [["-c", "import maesil"], ["-m", "maesil", "--help"]])
def test_import__and_the_help_take_less_than_a_third_of_a_second(words: list[str]) -> None:
    command = [sys.executable, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # writes the bytecode
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    spent_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent_s < 0.3


def test_import__is_quick_and_loads_no_torch() -> None:
    heavy = {"torch", "zarr", "nibabel", "SimpleITK", "pandas"}
    check = f"import maesil, maesil.cli, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_wrong_calls__are_answered_before_torch_is_loaded() -> None:
    """Names and paths that are not there, in one process; flags that only torch knows wait for no more than torch."""
    calls = [
        *(f"{command} nowhere" for command in CHECKS if 0 in CHECKS[command]),
        *(f"{command} --data.store nowhere" for command in CHECKS if "--data.store" in CHECKS[command]),
        *("evaluates run", "check nowhere", "datasets nowhere", "pretrain --run nowhere"),
        *(f"{command} --bogus" for command in ("check", "datasets", "prepare", "report", "probe", "embed", "masks")),
    ]
    check = f"""
import sys
from maesil.cli import main
for call in {calls}:
    assert main(call.split()) != 0, call
    assert "torch" not in sys.modules, call
for command in {[*(name for name in COMMANDS if name != "finetune"), *(f"finetune {task}" for task in TASKS)]}:
    assert main([*command.split(), "--bogus"]) == 2, command
    assert not {{"monai", "pytorch_lightning"}} & set(sys.modules), command
"""
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)


@pytest.mark.parametrize(
    "call", ["pretrain demo --run run --data.store", "pretrain demo --data.store --run run", "plan demo --data.store"]
)
def test_store__without_a_value_is_asked_for(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(call.split()) == 2
    assert "no store is given" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_doctor__findings_are_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == list(found), "one finding a line, however narrow the output is"
    assert {"maesil", "python", "torch", "CPU cores", "GPU", "memory", "LPIPS weights", "sample CT"} <= set(found)


def test_doctor__fetches_the_weights_of_lpips_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def refuse(url: str, **_: object) -> None:
        asked.append(url)
        raise OSError("no route")

    monkeypatch.delenv("MAESIL_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    assert main(["doctor", "--fetch-lpips", "squeeze"]) != 0
    said = capsys.readouterr().err
    assert "no route" in said
    assert "MAESIL_LPIPS_WEIGHTS" in said
    assert [url.rsplit("/", 1)[1] for url in asked] == ["squeezenet1_1-b8a52dc0.pth"]


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
    other = tmp_path / "other.json"
    assert main(["datasets", str(scans), "--out", str(other), "--table", str(tmp_path / "t.xlsx")]) == 2
    assert "a table can't be a '.xlsx' file" in capsys.readouterr().err
    assert not other.exists(), "refused before the work"


def test_datasets__cuts_no_word_of_table_1_in_a_narrow_terminal(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"Totalsegmentator_volumes_{number}" for number in (1, 2, 3)]
    for name in names:
        shutil.copytree(scans, tmp_path / name, ignore=lambda folder, files: sorted(files)[1:])
    monkeypatch.setenv("COLUMNS", "80")
    main(["datasets", *(str(tmp_path / name) for name in names)])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    words = printed.replace("┃", " ").split()
    assert {*names, "all"} <= set(words)
    assert printed.count("slice distance mm") == printed.count("Table I") == printed.count("Table I, continued") + 1
    monkeypatch.setenv("COLUMNS", "200")
    main(["datasets", *(str(tmp_path / name) for name in names)])
    assert capsys.readouterr().out.count("Table I") == 1


def test_datasets__notes_about_all_sources_have_no_place(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ct").mkdir()
    shutil.copy(next(scans.glob("*.nii.gz")), tmp_path / "ct" / "a.nii.gz")
    shutil.copy(tmp_path / "ct" / "a.nii.gz", tmp_path / "ct" / "b_seg.nii.gz")
    assert main(["datasets", str(tmp_path / "ct"), "--splits.overrides", "nobody", "test"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "note: 1 file taken for labels because of the name, folder or header" in said
    assert "note: the split 'val' is empty" in said
    assert "cannot be used: no patient is called 'nobody'" in said
    assert ": .:" not in said


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
    assert printed.out.rstrip().splitlines()[-1].startswith("On masked voxels, maesil is ")
    assert "index.html" in printed.err
    assert (tmp_path / "out" / "table3.tex").is_file()

    def broken(*parts: object) -> None:
        raise RuntimeError("no such model")

    monkeypatch.setitem(UNTRAINED._parts, "kriging", broken)
    assert main([word.replace("maesil,mean", "maesil,mean,kriging") for word in words]) == 1
    told = capsys.readouterr().err
    assert "failed: kriging: RuntimeError: no such model" in told


def test_compare__under_another_masking(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings are flags, too."""
    monkeypatch.setitem(PRESETS._parts, "demo", lambda: tiny_config)
    words = ["compare", str(tiny_config.data.store), "--models", "mean", "--beside", "demo", "--out", str(tmp_path)]
    words += ["--masking.name", "plane", "--masking.plane-ratio", "0.5", "--protocol.lpips", "None"]
    assert main(words) == 0
    assert "plane, 50.0% hidden" in (tmp_path / "index.html").read_text()


def test_masks__refuses_what_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["masks", "--out", str(tmp_path / "masks.txt")]) == 2
    assert "use one of: .png" in capsys.readouterr().err


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
    assert "preparing 5/5" in printed.err
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
    assert {row["region"] for row in rows} == {"whole", "masked", "predicted"}
    assert {row["scan"] for row in rows} == {next(row["scan"] for row in rows)}
    assert "protocol" in table
    assert all((run / "evaluation" / "test" / f"table.{kind}").is_file() for kind in ("md", "tex", "csv"))

    assert main(["report", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"page": str(run / "report.html")}
    assert (run / "report.html").stat().st_size > 20_000

    out = tmp_path / "rebuilt.nii.gz"
    assert main(["reconstruct", str(run), str(sources / "d.nii.gz"), "--out", str(out), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written == {"reconstruction": str(out), "mask": str(tmp_path / "rebuilt_maesil_mask.nii.gz")}
    assert main(["reconstruct", str(run), str(tmp_path / "nowhere.nii.gz"), "--out", str(out)]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    scan, rebuilt, mask = (
        nibabel.load(path) for path in (sources / "d.nii.gz", out, tmp_path / "rebuilt_maesil_mask.nii.gz")
    )
    assert rebuilt.shape == scan.shape == mask.shape
    assert abs(rebuilt.affine - scan.affine).max() < 1e-4
    hidden = mask.get_fdata() > 0
    assert 0.6 < hidden.mean() < 0.9
    assert (rebuilt.get_fdata()[~hidden] == scan.get_fdata()[~hidden]).all()


def test_main__a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def assume(words: list[str]) -> int:
        warnings.warn(GeometryWarning("the sform was used"), stacklevel=2)
        return len(words)

    monkeypatch.setattr(cli, "_run", assume)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["one"]) == 1
    assert capsys.readouterr().err == "maesil: warning: the sform was used\n"


def test_main__tells_a_wrong_word_before_it_loads_what_the_work_needs() -> None:
    check = (
        "import sys; from maesil.cli import main\n"
        "for command, heavy in [('prepare', 'torch'), ('report', 'torch'), ('pretrain', 'pytorch_lightning')]:\n"
        "    assert main([command, 'base', '--nope']) == 2\n"
        "    assert heavy not in sys.modules, command\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_help__of_pretrain_begins_with_what_most_runs_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its settings are several hundred lines: the first screen says where to begin."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["pretrain", "--help"]) == 0
    first, rest = (capsys.readouterr().out).split("Examples:")
    assert len(first.splitlines()) < 24
    flags = re.findall(r"--[a-z.]+[a-z]", first.partition("Most runs set")[2].partition("All")[0])
    assert len(flags) > 5
    assert all(re.search(rf"^\W*{flag} ", rest, re.MULTILINE) for flag in flags)
    sections = first.partition("section: ")[2].partition("PRESET")[0]
    named = re.findall(r"\w+", re.sub(r"\(.*?\)", "", sections, flags=re.DOTALL))
    boxes = dict.fromkeys(re.findall(r"^\W*(\w+)[.\w]* options", rest, re.MULTILINE))
    assert named == [name for name in boxes if name != "options"]
