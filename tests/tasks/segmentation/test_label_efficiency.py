"""The label-efficiency experiment through the public command, small."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from backbones import small_backbone, small_card
from conftest import TINY_MODEL
from labelled import labelled_store
from maesil.cli import main
from maesil.errors import ConfigError, OutputError, TrainingError
from maesil.export.targets import export
from maesil.metrics.segmentation import segmentation_scores
from maesil.runs.pretrain import Outcome
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation import label_efficiency, rates
from maesil.tasks.segmentation.arms import arm_of
from maesil.tasks.segmentation.config import FinetuneConfig, ScratchConfig, SegmentationConfig
from maesil.tasks.segmentation.label_efficiency import compare_transfer
from maesil.tasks.segmentation.label_efficiency_page import efficiency_sheet
from maesil.tasks.segmentation.score import Scored, load_segmenter, segment
from maesil.tasks.segmentation.train import Ready, finetune_segmentation
from maesil.tasks.segmentation.trials import Amount, Trial
from maesil.training.config import EfficiencyConfig


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    store = labelled_store(tmp_path_factory.mktemp("labelled"))
    encoder = export(small_backbone(TINY_MODEL), small_card(TINY_MODEL), "safetensors", store.parent / "encoder")
    return [
        "compare-transfer", "--init", str(encoder), "--data.store", str(store),
        "--data.holdout.patients.fractions", "1", "0", "0", "--data.holdout.patients.overrides", "d", "test",
        "--model.mode", "linear", "--train.steps", "2", "--train.batch", "1", "--seeds", "2",
        "--efficiency.precision", "32-true",
    ]  # fmt: skip


def test_command__experiment_and_its_continuation(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*words, "--scans", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "| 1 scan | 2 x 1 |" in printed.out
    assert printed.err.count("2 classes: bright, dark") == 1, "once for all trials"
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
    assert "an experiment with other settings: train.steps is 2 there, 3 here\n" in capsys.readouterr().err
    told = json.loads((out / "experiment.json").read_text())
    (out / "experiment.json").write_text(json.dumps({**told, "encoder": "another"}))
    assert main([*words, "--scans", "1", "--out", str(out)]) == 2
    assert "an experiment with other settings: encoder is another there, " in capsys.readouterr().err
    told.pop("encoder")  # earlier versions did not record it
    labels = {key: value for key, value in told["labels"].items() if key != "partial"}
    (out / "experiment.json").write_text(json.dumps({**told, "labels": labels}))
    assert main([*words, "--scans", "1", "--out", str(out)]) == 0, "of a version without partly labelled scans"
    capsys.readouterr()
    (out / "experiment.json").write_text(json.dumps({k: v for k, v in told.items() if k not in ("scratch", "rates")}))
    assert main([*words, "--scans", "1", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "other settings: scratch.peak_lr is not recorded there, none here; " in said, "of an earlier version"


def test_command__another_store_is_refused_and_a_moved_one_goes_on(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = words.index("--data.store") + 1
    store, call = Path(words[place]), [*words, "--scans", "1", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert main(call) == 0
    monkeypatch.chdir(store.parent)
    call[place] = store.name
    assert main(call) == 0
    labelled_store(tmp_path / "other", 0.8)
    monkeypatch.chdir(tmp_path / "other")
    capsys.readouterr()
    assert main(call) == 2
    assert "an experiment with other settings: data.store is " in capsys.readouterr().err


def test_command__a_trial_that_fails_is_told(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def finetune(config: FinetuneConfig, run: Path, **rest: Any) -> Outcome:
        if config.labels.scans == 2:
            raise TrainingError("the loss became nan")
        return finetune_segmentation(config, run, **rest)

    monkeypatch.setattr(label_efficiency, "finetune_segmentation", finetune)
    out = tmp_path / "out"
    assert main([*words, "--scans", "1", "2", "--seeds", "1", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert "2 scans, scratch, seed 0 failed: the loss became nan" in printed.out
    assert "| 1 scan | 1 x 1 |" in printed.out
    told = " ".join(printed.err.split())
    assert "2 of 4 trials failed: 2 scans, pre-trained, seed 0; 2 scans, scratch, seed 0 (reasons in" in told
    assert str(out / "table.md") in told.replace(" ", "")


def test_command__wrong_calls(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, said in (
        ([*words, "--scans", "1"], "no output folder is given"),
        ([*words, "--out", str(tmp_path / "out")], "no amounts of labels"),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--init", "none"], "nothing to compare with"),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--seed", "1"], "--seed would have no effect"),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--labels.scans", "2"], "--labels.scans would"),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--labels.share", "0.2"], "--labels.share would"),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--random-start"], "--random-start would"),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--train.optimizer", "muon"], "--train.optimizer"),
        (
            [*words, "--scans", "1", "--out", str(tmp_path / "out"), "--scratch.layer-decay", "0.5"],
            "--scratch.layer-decay",
        ),
        (
            [*words, "--shares", "0.5", "--out", str(tmp_path / "out"), "--model.foreground", "0.1"],
            "--model.foreground",
        ),
        ([*words, "--scans", "1", "9", "--out", str(tmp_path / "out")], "9 labelled training scans requested, 3 avail"),
        (
            [*words, "--scans", "1", "--out", str(tmp_path / "out"), "--labels.classes", "bright", "spleen"],
            "no scan has the class 'spleen'",
        ),
        (
            [*words, "--scans", "1", "--out", str(tmp_path / "out"), "--data.holdout.patients.overrides", "z", "test"],
            "no patient is called 'z'",
        ),
        (
            [*words, "--scans", "1", "--out", str(tmp_path / "out"), "--data.holdout.patients.overrides", "d", "val"],
            "no labelled scan is in the split 'test'",
        ),
        (
            [*words, "--scans", "1", "--out", str(tmp_path / "out"), "--data.window.low-hu", "-160"],
            "the window is -160 to",
        ),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--rates", "1", "2"], "none has a labelled scan"),
        ([*words, "--scans", "1", "--out", str(tmp_path / "out"), "--rates", "0", "2"], "a learning rate is 0"),
        (
            [*words, "--scans", "1", "--out", str(tmp_path / "out"), "--rates", "1", "--scratch.peak-lr", "2"],
            "--scratch.peak-lr would have no effect",
        ),
    ):
        assert main(wrong) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_command__a_decoder_that_does_not_fit_is_refused_before_any_training(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = replace(TINY_MODEL, patch=(6, 8, 8), superpatch=(12, 16, 16))
    encoder = export(small_backbone(coarse), small_card(coarse), "safetensors", tmp_path / "encoder")
    call = [*words, "--scans", "1", "--scratch.mode", "full", "--out", str(tmp_path / "out"), "--init", str(encoder)]
    assert main(call) == 2
    assert "the patch (6, 8, 8) is not a power of two" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_efficiency_sheet__differences_in_pairs() -> None:
    def trial(start: str, seed: int, dice: float) -> Trial:
        row = {"scan": "d", "patient": "d", "class": "liver", "dice": dice, "hd95_mm": 1.0, "nsd": 1.0}
        return Trial(Amount(scans=2), start, seed, (row, {**row, "class": "absent", "dice": float("nan")}))

    trials = [trial("pre-trained", 0, 0.8), trial("scratch", 0, 0.5), trial("pre-trained", 1, 0.6)]
    sheet = efficiency_sheet([*trials, replace(trial("scratch", 1, 0.0), rows=(), failed="no such thing")])
    (row,) = sheet.rows
    assert row[:2] == ("2 scans", "1 x 1")
    assert row[2:] == ("0.800", "0.500", "+0.300")  # the seed that only one start has would make them 0.7 and 0.5
    assert any("failed: no such thing" in note for note in sheet.notes)
    (told,) = [note for note in sheet.notes if note.startswith("Left out")]
    assert told.endswith("for this seed: 2 scans, pre-trained, seed 1.")
    (alone,) = efficiency_sheet(trials[2:]).rows
    assert alone[:3] == ("2 scans", "1 x 1", "0.600")  # the first training of an experiment is shown


@dataclass
class Stub:
    """Trainings that take no time: their settings, and a validation Dice that the rate alone decides."""

    dice: dict[tuple[str, float], float]
    trained: list[tuple[str, FinetuneConfig]] = field(default_factory=list)
    tested: list[str] = field(default_factory=list)

    def finetune(self, config: FinetuneConfig, run: Path, **rest: object) -> Outcome:
        self.trained.append((run.parent.name, config))
        run.mkdir(parents=True, exist_ok=True)
        assert config.train.peak_lr is not None
        if config.train.peak_lr > 1:
            raise TrainingError("the loss became nan")
        return Outcome("finished", run, config.train.steps, config.train.steps)

    def validate(self, run: Path, store: Path, progress: object) -> dict[str, float]:
        start, rate = run.name.rsplit("-", 1)[0], float(run.name.split("-", 2 if "pre" in run.name else 1)[-1])
        return {"c": self.dice[start, rate]}

    def score(self, run: Path, **rest: object) -> Scored:
        self.tested.append(run.relative_to(run.parents[2]).as_posix())
        row = {"scan": "d", "dataset": "s", "patient": "d", "class": "bright", "dice": 0.5, "hd95_mm": 1.0, "nsd": 1.0}
        return Scored((row,), "")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    found = Stub(
        {
            ("pre-trained", 0.001): 0.7, ("pre-trained", 0.01): 0.4, ("pre-trained", 0.1): 0.1,
            ("scratch", 0.001): 0.2, ("scratch", 0.01): 0.5, ("scratch", 0.1): 0.5,
        }
    )  # fmt: skip
    encoder = (small_backbone(), small_card())
    monkeypatch.setattr(label_efficiency, "load_with_card", lambda init: encoder)
    monkeypatch.setattr(label_efficiency, "finetune_segmentation", found.finetune)
    monkeypatch.setattr(rates, "finetune_segmentation", found.finetune)
    monkeypatch.setattr(rates, "validation_dice", found.validate)
    ready = Mock(spec=Ready, backbone=encoder[0], classes=("bright",))
    monkeypatch.setattr(label_efficiency, "ready_to_train", lambda config, **rest: ready)
    monkeypatch.setattr(label_efficiency, "require_validation", lambda ready: None)
    monkeypatch.setattr(label_efficiency, "score_segmentation", found.score)
    return found


def experiment(tmp_path: Path) -> FinetuneConfig:
    config = FinetuneConfig(init="runs/base", efficiency=EfficiencyConfig(accelerator="cpu"))
    return replace(config, data=replace(config.data, store=tmp_path / "store"))


def test_rates__each_start_takes_what_is_best_for_it_on_validation(stub: Stub, tmp_path: Path) -> None:
    amounts, out = [Amount(scans=1), Amount(scans=3)], tmp_path / "out"
    compare_transfer(experiment(tmp_path), amounts, 2, out, rates=(0.001, 0.01, 0.1, 2.0))
    searched = [config for folder, config in stub.trained if folder == "rates"]
    assert [(c.random_start, c.train.peak_lr) for c in searched] == [
        (random, rate) for random in (False, True) for rate in (0.001, 0.01, 0.1, 2.0)
    ]
    assert {c.labels.scans for c in searched} == {3}, "at the largest amount"
    trials = [config for folder, config in stub.trained if folder != "rates"]
    assert len(trials) == 8
    for config in trials:
        assert config.train.peak_lr == (0.01 if config.random_start else 0.001), "of equal ones the smaller"
        assert config.model.layer_decay == (1.0 if config.random_start else 0.75)
    assert len(stub.tested) == 8
    assert all(run.startswith("runs/") for run in stub.tested), "no rate looks at the test patients"
    told = json.loads((out / "settings.json").read_text())
    assert told["arms"]["scratch"] == {"start": "scratch", "peak_lr": 0.01, "layer_decay": 1.0, "mode": "full"}
    assert told["search"]["amount"] == "3 scans"
    assert len(told["search"]["attempts"]) == 8
    for name in ("table.md", "index.html"):
        text = (out / name).read_text()
        assert "scratch: peak learning rate 0.01, layer decay 1" in text
        assert "pre-trained 0.001 0.700, 0.01 0.400, 0.1 0.100, 2 failed (the loss became nan)" in text
    compare_transfer(experiment(tmp_path), amounts, 2, out, rates=(0.001, 0.01, 0.1, 2.0))
    with pytest.raises(ConfigError, match="other settings: rates_chosen_on is 3 scans there, 5 scans here"):
        compare_transfer(experiment(tmp_path), [*amounts, Amount(scans=5)], 2, out, rates=(0.001, 0.01, 0.1, 2.0))


def test_amounts__given_twice_count_once(stub: Stub, tmp_path: Path) -> None:
    found, _ = compare_transfer(experiment(tmp_path), [Amount(scans=1), Amount(scans=1)], 2, tmp_path / "out")
    assert [trial.name for trial in found.trials] == list(dict.fromkeys(trial.name for trial in found.trials))
    assert len(stub.trained) == 4


def test_rates__a_full_disk_ends_the_search(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing about a rate: the one that was tried before it would be chosen."""

    def full(run: Path, *rest: object) -> dict[str, float]:
        if run.name == "pre-trained-0.1":
            raise OutputError("the file cannot be written: No space left on device", where=run)
        return stub.validate(run, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(rates, "validation_dice", full)
    with pytest.raises(OutputError, match="No space left"):
        compare_transfer(experiment(tmp_path), [Amount(scans=1)], 1, tmp_path / "out", rates=(0.01, 0.1))
    assert len(stub.trained) == 2


def test_rates__none_that_trains(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'pre-trained' failed at every learning rate: the loss became nan"):
        compare_transfer(experiment(tmp_path), [Amount(scans=1)], 1, tmp_path / "out", rates=(2.0, 3.0))
    assert not stub.tested


@pytest.mark.parametrize(
    ("scratch", "rates_given", "wanted"),
    [
        (ScratchConfig(), (), (1e-3, 1.0)),
        (ScratchConfig(peak_lr=5e-3, layer_decay=0.9), (), (5e-3, 0.9)),
        (ScratchConfig(), (2e-3,), (2e-3, 1.0)),
    ],
)
def test_scratch__has_its_own_rate_and_decay(
    scratch: ScratchConfig, rates_given: tuple[float, ...], wanted: tuple[float, float], stub: Stub, tmp_path: Path
) -> None:
    config = experiment(tmp_path)
    config = replace(config, model=replace(config.model, features=4, layer_decay=0.6), data=replace(config.data))
    compare_transfer(config, [Amount(scans=1)], 1, tmp_path / "out", scratch=scratch, rates=rates_given)
    (_, pretrained), (_, random) = stub.trained
    rate = rates_given[0] if rates_given else config.train.peak_lr
    assert (pretrained.train.peak_lr, pretrained.model.layer_decay) == (rate, 0.6)
    assert (random.train.peak_lr, random.model.layer_decay) == wanted
    plain = replace(config, labels=replace(config.labels, scans=1))
    for found, start in ((pretrained, False), (random, True)):
        same = replace(found, train=config.train, model=config.model)
        assert same == replace(plain, random_start=start), "all other settings reach both starts"
    assert "Learning rates were given, not chosen." in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.slow
def test_command__rates_are_chosen_on_whole_validation_scans(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    split = ["--data.holdout.patients.overrides", "c", "val", "d", "test"]
    assert main([*words, "--scans", "1", "--seeds", "1", "--rates", "1e-3", "1e-2", *split, "--out", str(out)]) == 0
    store = Path(words[words.index("--data.store") + 1])
    run = out / "rates" / "scratch-0.01"
    told = json.loads((run / "validation.json").read_text())
    loaded, scans = load_segmenter(run), ScanStore(store)
    found = segment(loaded.model, scans.volume("scans-c").array)
    truth = loaded.classes.read(scans, "scans-c", (0, 0, 0), scans.entry("scans-c").shape)
    scores = segmentation_scores(torch.from_numpy(found.astype(np.int64)), torch.from_numpy(truth), 2, (2.0, 2.0, 2.0))
    assert told == {"scans-c": pytest.approx(np.mean([row["dice"] for row in scores]))}
    search = json.loads((out / "settings.json").read_text())["search"]
    assert {(a["start"], a["peak_lr"]) for a in search["attempts"]} == {
        (start, rate) for start in ("pre-trained", "scratch") for rate in (1e-3, 1e-2)
    }


def test_arms__random_weights_may_be_trained_beside_a_frozen_encoder() -> None:
    config = FinetuneConfig(init="run", model=SegmentationConfig(mode="frozen"))
    first, second = (arm_of(config, ScratchConfig(mode="full"), start, [1e-3]) for start in ("pre-trained", "scratch"))
    assert (first.mode, first.layer_decay) == ("frozen", None)
    assert (second.mode, second.layer_decay) == ("full", 1.0)
    assert second.settings(config).model.mode == "full"
    assert arm_of(config, ScratchConfig(), "scratch", [1e-3]).mode == "frozen"
