"""Whom an encoder was trained on, told by every verb that tests it, and by none of a checkpoint's bytes."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from backbones import small_backbone, small_card
from conftest import TINY_MODEL
from labelled import CENTRES, with_inclusion
from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig, from_dict
from maesil.ct.geometry import Geometry
from maesil.ct.write import write_nifti
from maesil.datasets.splits import SplitConfig
from maesil.encoder.card import Transfer
from maesil.encoder.features import UNKNOWN, read_features
from maesil.evaluation.protocol import Protocol
from maesil.export.targets import export
from maesil.runs.sides import moved_warnings
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.seen import seen_note, seen_patients, trained_on
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanEntry, ScanStore

TAUGHT, TESTED = ("kestrel", "plover"), ("heron", "osprey")
PROTOCOL = Protocol(regions=("masked",), lpips=None)
SMALL = ("--efficiency.precision", "32-true")


def entry(patient: str, source: str = "", dataset: str = "set") -> ScanEntry:
    geometry = Geometry.from_parts((32, 32, 32), (2.0, 2.0, 2.0))
    return ScanEntry(
        scan_id=f"{dataset}-{patient}-{source}", dataset=dataset, patient=patient, geometry=geometry,
        spacing_mm=(2.0, 2.0, 2.0), shape=(32, 32, 32), tissue_share=1.0,
        source_sha256=hashlib.sha256(f"{patient}{source}".encode()).hexdigest(), source_geometry=geometry,
    )  # fmt: skip


def test_trained_on__is_a_keyed_hash_of_names_and_sources() -> None:
    one = entry("kestrel")
    record = trained_on([one, entry("kestrel", "2")])
    key = record["salt"].encode()
    assert len(record["salt"]) == 32
    assert record["patients"] == [hmac.new(key, b"patient\0kestrel", "sha256").hexdigest()[:16]]
    assert hmac.new(key, b"source\0" + one.source_sha256.encode(), "sha256").hexdigest()[:16] in record["sources"]
    assert len(record["sources"]) == 2
    again = trained_on([one, entry("kestrel", "2")])
    assert again["salt"] != record["salt"]
    assert set(again["patients"]).isdisjoint(record["patients"]), "two checkpoints share no hash"
    assert json.loads(json.dumps(record)) == record


def test_seen_patients__by_name_or_by_the_source_of_any_scan() -> None:
    record = trained_on([entry("kestrel", "1"), entry("plover", "1")])
    assert seen_patients(record, [entry("kestrel", "other"), entry("heron")]) == {"kestrel"}
    renamed = replace(entry("plover", "1"), patient="p77", dataset="elsewhere")
    assert seen_patients(record, [renamed, entry("p77", "other"), entry("p78")]) == {"p77"}
    assert seen_patients(record, []) == frozenset()
    assert seen_patients(None, [entry("kestrel")]) is None


@pytest.mark.parametrize(
    ("taught", "tested", "said"),
    [
        ("ab", "abcde", "The encoder saw 2 of the 5 test patients in training: their scores say nothing about "
         "unseen patients."),
        ("a", "abcde", "The encoder saw 1 of the 5 test patients in training: this patient's scores say nothing about "
         "unseen patients."),
        ("ab", "ab", "The encoder saw all 2 test patients in training: their scores say nothing about unseen "
         "patients."),
        ("a", "a", "The encoder saw the test patient in training: the score says nothing about unseen patients."),
        ("xy", "abcde", "None of the 5 test patients was seen in pre-training, by name or source."),
        ("x", "a", "The test patient was not seen in pre-training, by name or source."),
        ("", "abcde", "The encoder saw no patient in training: it starts from random weights."),
        (None, "abcde", "The checkpoint does not record its training patients."),
    ],
)  # fmt: skip
def test_seen_note__says_how_many(taught: str | None, tested: str, said: str) -> None:
    record = None if taught is None else trained_on(map(entry, taught))
    scans = [entry(name, number) for name in tested for number in "12"]
    assert seen_note(record, scans) == said


def prepared(folder: Path, names: dict[str, str], **settings: Any) -> Path:
    """A labelled store of the four bodies under these names."""
    scans = folder / "birds"
    scans.mkdir(parents=True)
    for seed, (body, name) in enumerate(names.items()):
        volume, labels = with_inclusion(seed, CENTRES[body])
        write_nifti(scans / f"{name}.nii.gz", volume)
        write_nifti(scans / f"{name}_labels.nii.gz", labels)
    (folder / "names.json").write_text('{"1": "bright", "2": "dark"}')
    wanted = {"salt": "test", "labels": True, "label_names": folder / "names.json", "spacing_mm": 2.0, **settings}
    assert len(prepare([scans], folder / "store", PrepareConfig(keep_names=True, **wanted), workers=0).prepared) == 4
    return folder / "store"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("seen"), dict(zip("abcd", TAUGHT + TESTED, strict=True)))


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training on two of the four."""
    patients = SplitConfig(fractions=(1.0, 0.0, 0.0), overrides=dict.fromkeys(TESTED, "test"))
    plain = RunConfig()
    config = replace(
        plain,
        preset="tiny",
        data=DataConfig(store=store, holdout=HoldoutConfig(patients=patients)),
        model=TINY_MODEL,
        train=replace(plain.train, steps=2, batch=1),
        monitor=replace(plain.monitor, validate_every=0, image_every=0),
        efficiency=replace(plain.efficiency, accelerator="cpu", precision="32-true", threads=1),
    )
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    assert pipeline.pretrain(config, folder).status == "finished"
    return folder


def record_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "checkpoints" / "last" / "config.json").read_text())
    return found


def test_moved_warnings__of_patients_who_change_sides_while_a_run_goes_on(run: Path, store: Path) -> None:
    record = json.loads((run / "checkpoints" / "last" / "config.json").read_text())
    scans, config = ScanStore(store), from_dict(record["config"])
    assert moved_warnings(record["seen"], scans, config) == []
    assert moved_warnings(None, scans, config) == []
    holdout = replace(
        config.data.holdout, patients=SplitConfig(fractions=(1.0, 0.0, 0.0), overrides={TESTED[0]: "test"})
    )
    (warning,) = moved_warnings(record["seen"], scans, replace(config, data=replace(config.data, holdout=holdout)))
    assert warning.startswith(f"{TESTED[1]}: in training when this run began and held out now, or the reverse")


def test_evaluate__says_whom_the_model_saw(run: Path, tmp_path: Path) -> None:
    table = pipeline.evaluate(run, protocol=PROTOCOL).table
    assert "None of the 2 test patients was seen in pre-training, by name or source." in table
    out = tmp_path / "scores.json"
    table = pipeline.evaluate(run, split="train", protocol=PROTOCOL, json_path=out).table
    said = "The model saw all 2 scored patients in training: their scores say nothing about unseen patients."
    assert said in table
    assert said in out.read_text()
    assert "never saw" not in table


def test_evaluate__the_same_files_in_another_store(run: Path, store: Path, tmp_path: Path) -> None:
    """Other names, another spacing: all four fall to "train" there, and two of them were trained on."""
    other = prepared(tmp_path, {"a": "n1", "b": "n2", "c": "n3", "d": "n4"}, spacing_mm=2.5)
    ours, theirs = ({e.source_sha256: e.patient for e in ScanStore(path).entries} for path in (store, other))
    assert ours.keys() == theirs.keys(), "the same bytes"
    table = pipeline.evaluate(run, store=other, split="train", protocol=PROTOCOL).table
    assert "The model saw 2 of the 4 scored patients in training: their scores" in table


def test_evaluate__a_checkpoint_from_before(run: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(run, tmp_path / "old", symlinks=True))
    for path in (old / "checkpoints").glob("*/config.json"):
        record = json.loads(path.read_text())
        record.pop("seen", None)
        path.write_text(json.dumps(record))
    assert "The checkpoint does not record its training patients." in pipeline.evaluate(old, protocol=PROTOCOL).table


def test_checkpoint__tells_nobody_it_was_trained_on(run: Path, store: Path, tmp_path: Path) -> None:
    """Held-out patients stand in the settings, as the user named them; those who taught stand nowhere."""
    out = pipeline.export(run, "huggingface", tmp_path / "out")
    folders = (run / "checkpoints" / "last", out)
    told = b"\n".join(path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
    entries = ScanStore(store).entries
    secrets = [*TAUGHT, *(e.source_sha256 for e in entries), *(e.scan_id for e in entries), str(store.parent)]
    assert [secret for secret in secrets if secret.encode() in told] == []
    assert record_of(run)["seen"]["salt"].encode() in told


def test_export__carries_whom_it_saw(run: Path, tmp_path: Path) -> None:
    from maesil.export.huggingface import HubBackbone

    seen = record_of(run)["seen"]
    first = pipeline.export(run, "safetensors", tmp_path / "first")
    second = pipeline.export(first, "huggingface", tmp_path / "second")
    assert Transfer.read(first).seen == Transfer.read(second).seen == seen
    assert HubBackbone.from_pretrained(second).transfer.seen == seen


def test_read__a_folder_from_before_does_not_say(tmp_path: Path) -> None:
    folder = export(small_backbone(), small_card(), "safetensors", tmp_path / "old")
    written = json.loads((folder / "transfer.json").read_text())
    assert written.pop("format") == 2
    written.pop("seen")
    (folder / "transfer.json").write_text(json.dumps({**written, "format": 1}))
    card = Transfer.read(folder)
    assert card.seen is None
    again = pipeline.export(folder, "safetensors", tmp_path / "again")
    assert json.loads((again / "transfer.json").read_text())["format"] == 2, "it has a key that format 1 has not"


BY_PATIENT = (
    "--data.holdout.patients.fractions", "1", "0", "0",
    "--data.holdout.patients.overrides", "kestrel", "test", "heron", "test",
)  # fmt: skip
"""Test patients are one whom the encoder saw and one whom it did not."""


def finetuned(run: Path, store: Path, out: Path, *more: str, holdout: tuple[str, ...] = BY_PATIENT) -> list[str]:
    return [
        "finetune", "segmentation", "--init", str(run), "--data.store", str(store), "--run", str(out), *holdout,
        "--model.mode", "linear", "--train.steps", "2", "--train.batch", "1", *SMALL, *more,
    ]  # fmt: skip


def test_finetune_segmentation__says_whom_the_encoder_saw(
    run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    assert main(finetuned(run, store, out)) == 0
    said = "The encoder saw 1 of the 2 test patients in training: this patient's scores say nothing about unseen"
    assert said in capsys.readouterr().out
    assert said in (out / "table.tex").read_text()
    record = record_of(out)
    assert record["encoder"]["seen"] == record_of(run)["seen"]
    entries = ScanStore(store).entries
    assert seen_patients(record["seen"], entries) == {"plover", "osprey"}, "those who taught the segmentation"
    written = (out / "checkpoints" / "last" / "config.json").read_text()
    assert [name for name in ("plover", "osprey") if name in written] == []
    old = dict(record, encoder=asdict(small_card(TINY_MODEL)), scans={"train": [], "val": [], "test": []})
    old.pop("seen")
    (out / "checkpoints" / "last" / "config.json").write_text(json.dumps(old))
    table = pipeline.score_segmentation(out).table
    assert "The checkpoint does not record its training patients." in table


def test_finetune_segmentation__random_weights_saw_nobody(
    run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(finetuned(run, store, tmp_path / "tuned", "--random-start")) == 0
    assert "The encoder saw no patient in training: it starts from random weights." in capsys.readouterr().out


def test_finetune_segmentation__patients_of_the_fine_tuning_itself(
    run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held out by superpatch: every test patient taught."""
    words = finetuned(run, store, tmp_path / "tuned", holdout=("--data.holdout.by", "superpatch"))
    assert main(words) == 0
    said = "The fine-tuning saw all 4 test patients in training: their scores say nothing about unseen patients."
    assert said in capsys.readouterr().out


def test_compare_transfer__says_whom_the_encoder_saw(
    run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [
        "compare-transfer", "--init", str(run), "--data.store", str(store), "--scans", "1", "--seeds", "1",
        "--data.holdout.patients.fractions", "1", "0", "0",
        "--data.holdout.patients.overrides", "kestrel", "test", "heron", "test",
        "--model.mode", "linear", "--train.steps", "1", "--train.batch", "1", *SMALL, "--out", str(out),
    ]  # fmt: skip
    assert main(words) == 0
    said = "The encoder saw 1 of the 2 test patients in training"
    assert said in capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert said in page
    assert "unseen patients" not in page.replace("say nothing about unseen patients", "")
    shutil.rmtree(out / "runs" / "scans-1" / "pre-trained-0" / "checkpoints")
    assert main(words) == 0
    assert said in capsys.readouterr().out, "the encoder says it where a trial's checkpoint is gone"


@pytest.mark.parametrize("mode", ["knn", "full"])
def test_finetune_classification__says_whom_the_encoder_saw(
    mode: str, run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labels = tmp_path / "run", tmp_path / "labels.csv"
    with labels.open("w", newline="") as file:
        rows = [("kestrel", "x"), ("plover", "x"), ("heron", "y"), ("osprey", "y")]
        csv.writer(file).writerows([("patient", "side"), *rows])
    words = [
        "finetune", "classification", "--init", str(run), "--data.store", str(store), "--labels", str(labels),
        "--run", str(out), "--folds", "2", "--mode", mode,
        *(("--train.steps", "1", "--train.batch", "2", *SMALL) if mode == "full" else ()),
    ]  # fmt: skip
    assert main(words) == 0
    assert "The encoder saw 2 of the 4 test patients in training: their scores" in capsys.readouterr().out
    assert json.loads((out / "scores.json").read_text())["seen"].startswith("The encoder saw 2 of the 4 test patients")
    if mode == "full":
        record = record_of(out / "fold-0")
        assert record["encoder"]["seen"] == record_of(run)["seen"]
        assert len(seen_patients(record["seen"], ScanStore(store).entries) or ()) == 2


def test_embed__tells_whom_the_encoder_saw(
    run: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features.csv"
    assert main(["embed", str(run), str(store), "--out", str(out)]) == 0
    assert "The encoder saw 2 of the 4 embedded patients in training" in " ".join(capsys.readouterr().err.split())
    texts = read_features(out).texts
    told = set(zip(texts["patient"], texts["seen"], strict=True))
    assert told == {(name, "yes") for name in TAUGHT} | {(name, "no") for name in TESTED}
    rows = list(csv.reader(out.read_text().splitlines()))
    at = rows[0].index("seen")
    out.write_text("".join(",".join(row[:at] + row[at + 1 :]) + "\n" for row in rows))
    assert set(read_features(out).texts["seen"]) == {UNKNOWN}, "a table from before"
