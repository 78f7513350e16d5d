"""Features, neighbours and classification of whole scans, through the public commands."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from backbones import small_backbone, small_card
from conftest import TINY_MODEL, blob
from maesil.cli import main
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.encoder.features import read_features
from maesil.errors import ConfigError, MissingExtraError
from maesil.evaluation.intervals import patient_interval
from maesil.export.targets import export
from maesil.extras import installing
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore
from maesil.tasks.classification.cases import Cases, fold_of, read_cases
from maesil.tasks.classification.config import ClassificationConfig
from maesil.tasks.classification.module import ClassificationModule
from maesil.tasks.classification.train import classification_sheet, scored

CLASSES = ("dense", "light")
COUNT = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight bodies, every other one much denser."""
    folder = tmp_path_factory.mktemp("bodies")
    scans = folder / "scans"
    scans.mkdir()
    for number in range(COUNT):
        volume = blob(number, (40, 40, 48))
        hu = np.where(volume.array > -500, volume.array + (500 if number % 2 == 0 else 0), volume.array)
        write_nifti(scans / f"p{number}.nii.gz", Volume(hu.astype(np.int16), volume.geometry))
    prepare([scans], folder / "store", PrepareConfig(spacing_mm=2.0, salt="test"), workers=0)
    return folder / "store"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(
        small_backbone(TINY_MODEL), small_card(TINY_MODEL), "safetensors", tmp_path_factory.mktemp("e") / "out"
    )


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return written(tmp_path, [(f"scans-p{n}", CLASSES[n % 2]) for n in range(COUNT)])


def written(folder: Path, rows: list[tuple[str, str]], header: tuple[str, ...] = ("scan_id", "density")) -> Path:
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def call(store: Path, encoder: Path, labels: Path, run: Path, *more: str) -> list[str]:
    words = ["finetune", "classification", "--init", str(encoder), "--data.store", str(store), "--labels", str(labels)]
    return [*words, "--run", str(run), "--folds", "4", *more]


@pytest.mark.parametrize(
    "probe", [("linear",), ("linear", "--pool", "mean_std"), ("knn",), ("attentive",)], ids=" ".join
)
def test_command__probes(
    probe: tuple[str, ...], store: Path, encoder: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(call(store, encoder, labels, run, "--mode", *probe)) == 0
    assert "| auroc |" in capsys.readouterr().out
    told = json.loads((run / "scores.json").read_text())
    assert told["classes"] == list(CLASSES)
    assert told["scores"]["auroc"]["value"] > 0.8, "denser bodies are told by any encoder"
    assert np.sum(told["confusion"]) == COUNT
    rows = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    assert len(rows) == COUNT
    assert {row["fold"] for row in rows} == {"0", "1", "2", "3"}
    assert all(abs(float(row["p_dense"]) + float(row["p_light"]) - 1) < 1e-5 for row in rows)


def test_command__does_not_go_on_with_another_store(
    store: Path,
    encoder: Path,
    labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = call(store, encoder, labels, tmp_path / "run", "--mode", "knn")
    assert main(words) == 0
    monkeypatch.setattr(ScanStore, "fingerprint", "another")
    assert main(words) == 2
    assert "a classification with other settings: store is " in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*words, "--pool", "mean_std"]) == 2
    assert "a classification with other settings: pool is mean there, mean_std here" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["knn", "full"])
def test_command__does_not_go_on_with_another_encoder(
    mode: str, store: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that was made longer meanwhile has the same path, and other weights."""
    run, source = tmp_path / "run", tmp_path / "encoder"
    words = call(store, source, labels, run, "--mode", mode, "--folds", "2")
    words += ["--train.steps", "1", "--train.batch", "1"] if mode == "full" else []
    export(small_backbone(TINY_MODEL), small_card(TINY_MODEL), "safetensors", source)
    assert main(words) == 0
    before = (run / "table.md").read_text()
    shutil.rmtree(source)
    torch.manual_seed(99)
    backbone = small_backbone(TINY_MODEL)
    with torch.no_grad():
        next(backbone.parameters()).add_(1.0)
    export(backbone, small_card(TINY_MODEL), "safetensors", source)
    assert main(words) == 2
    assert "a classification with other settings: encoder is " in capsys.readouterr().err
    assert (run / "table.md").read_text() == before
    told = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({key: value for key, value in told.items() if key != "encoder"}))
    assert main(words) == 0, "begun by a version that did not record it"


def test_command__refuses_the_folder_of_another_run(
    store: Path, encoder: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("preset: base\n")
    assert main(call(store, encoder, labels, run, "--mode", "knn")) == 2
    assert "what `maesil pretrain` wrote, and a classification needs a folder of its own" in capsys.readouterr().err
    assert [path.name for path in run.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(("more", "decay"), [(("--random-start",), 1.0), ((), 0.75)], ids=["random", "pretrained"])
def test_command__full_at_the_layer_decay_of_its_start(
    more: tuple[str, ...],
    decay: float,
    store: Path,
    encoder: Path,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Random weights learn at one rate; those of a pre-trained encoder the more slowly, the deeper they are."""
    rates: list[dict[str, float]] = []

    def fit(module: ClassificationModule, *rest: object) -> str:
        module.trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
        groups = module.make_optimizer(fused=False).param_groups
        own = {parameter: group["lr"] for group in groups for parameter in group["params"]}
        rates.append({name: own[parameter] for name, parameter in module.model.named_parameters()})
        return "interrupted"

    monkeypatch.setattr("maesil.tasks.classification.fold.fit", fit)
    words = [*call(store, encoder, labels, tmp_path / "run", "--mode", "full", "--train.peak-lr", "1e-2"), *more]
    main(words)
    (found,) = rates
    assert found["backbone.encoder.embed.weight"] == pytest.approx(1e-2 * decay**2)
    assert found["pool.head.weight"] == 1e-2


def test_command__full_tells_at_which_step_a_fold_goes_on(
    store: Path,
    encoder: Path,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("maesil.tasks.classification.fold.steps_done", lambda run: 7)
    monkeypatch.setattr("maesil.tasks.classification.fold.fit", lambda *rest: "interrupted")
    main(call(store, encoder, labels, tmp_path / "run", "--mode", "full"))
    assert "resumed at step 7\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scan_id;density\nscans-p0;dense\n", "the columns are: 'scan_id;density'"),
        ("scan_id;density\nscans-p0;dense\n", "separate the columns by commas, not by ';'"),
        ("name,density\nscans-p0,dense\n", "the columns are: 'name', 'density'"),
        ("scan_id,density\n", "the labels have no rows"),
        ("", "the file is empty"),
        ("class,scan_id\na,scans-p0\n\nb\n", "line 4 has 1 cell, the header 2"),
        ("scan_id,class\nscans-p0,a,x\nscans-p1,b\n", "line 2 has 3 cells, the header 2"),
        ("scan_id,class\nscans-p0,\nscans-p1, \n", "no row has a class in column 'class'"),
        ("scan_id,class\n scans-p0,a\n scans-p0,b\n", "'scans-p0' has two classes: a and b"),
    ],
)
def test_read_cases__says_what_is_wrong_with_columns_and_rows(
    text: str, message: str, store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_cases(path, ScanStore(store))
    assert message in str(refused.value)


@pytest.mark.slow
def test_command__full(store: Path, encoder: Path, labels: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    means = (
        "--train.steps",
        "60",
        "--train.batch",
        "4",
        "--train.peak-lr",
        "3e-3",
        "--efficiency.precision",
        "32-true",
    )
    words = [*call(store, encoder, labels, run, "--mode", "full", *means), "--folds", "2"]
    assert main(words) == 0
    told = json.loads((run / "scores.json").read_text())
    assert told["scores"]["accuracy"]["value"] >= 0.75
    before = {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    assert len(before) >= 2
    assert main([*words, "--seed", "3"]) == 2, "one folder, one experiment"
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished folds are kept"


def test_command__embed_and_similar(
    store: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features.csv"
    assert main(["embed", str(encoder), str(store), "--out", str(out)]) == 0
    capsys.readouterr()
    features = read_features(out)
    assert len(features.rows("scan")) == COUNT
    scans = ScanStore(store)
    for at in features.rows("superpatch"):
        entry = scans.entry(features.texts["scan_id"][at])
        start = [int(features.numbers[name][at]) for name in ("start_s", "start_p", "start_l")]
        size = [min(32, edge - first) for edge, first in zip(entry.shape, start, strict=True)]
        centre = entry.geometry.index_to_mm(np.array([[a + (n - 1) / 2 for a, n in zip(start, size, strict=True)]]))
        found = [features.numbers[name][at] for name in ("x_mm", "y_mm", "z_mm")]
        assert np.allclose(found, centre[0])
    assert main(["similar", str(out), "scans-p0", "--count", "3", "--json"]) == 0
    neighbours = json.loads(capsys.readouterr().out)["neighbours"]
    assert [int(row["scan_id"][-1]) % 2 for row in neighbours] == [0, 0, 0], "dense bodies are like dense ones"
    assert neighbours[0]["similarity"] >= neighbours[1]["similarity"]
    place = [str(value) for value in neighbours[0]["position_mm"]]
    assert main(["similar", str(out), "scans-p0", "--at", *place]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "similarity, scan, centre in LPS mm; nearest first:"
    assert rows
    assert all(row.endswith(" mm") for row in rows)
    assert main(["similar", str(out), "scans-p0", "--at", "9999", "9999", "9999"]) == 2
    assert "no region of 'scans-p0' is at 9999 9999 9999 mm" in capsys.readouterr().err
    older = tmp_path / "older.csv"
    pd.read_csv(out).drop(columns="radius_mm").to_csv(older, index=False)
    assert main(["similar", str(older), "scans-p0", "--at", "9999", "9999", "9999"]) == 0, "it does not tell"
    capsys.readouterr()
    assert main(["similar", str(out), "scans-p00"]) == 2
    assert "did you mean 'scans-p0'" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".npz", ".csv", ".parquet"])
def test_embed__every_kind_of_file_says_the_same(ending: str, store: Path, encoder: Path, tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    reference, out = tmp_path / "reference.npz", tmp_path / f"features{ending}"
    assert main(["embed", str(encoder), str(store), "--out", str(reference)]) == 0
    assert main(["embed", str(encoder), str(store), "--out", str(out)]) == 0
    first, second = read_features(reference), read_features(out)
    assert first.texts == second.texts
    np.testing.assert_allclose(first.vectors, second.vectors, rtol=1e-6)
    assert not list(tmp_path.glob(".*"))


def test_embed__parquet_without_its_packages(
    store: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(module: str, extra: str) -> None:
        raise MissingExtraError(f"this needs the package '{module}'", fix=installing(extra))

    monkeypatch.setattr("maesil.encoder.feature_file.optional", absent)
    assert main(["embed", str(encoder), str(store), "--out", str(tmp_path / "f.parquet")]) == 2
    assert "pip install -e '.[tables]'" in capsys.readouterr().err


def test_embed__wrong_ending_and_wrong_voxels(
    store: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", str(encoder), str(store), "--out", str(tmp_path / "f.xlsx")]) == 2
    assert ".parquet, .csv or .npz" in capsys.readouterr().err
    card = replace(small_card(TINY_MODEL), voxels={"policy": "spacing", "spacing_mm": 1.0})
    other = export(small_backbone(TINY_MODEL), card, "safetensors", tmp_path / "other")
    assert main(["embed", str(other), str(store), "--out", str(tmp_path / "f.csv")]) == 2
    said = capsys.readouterr().err
    assert "other voxels" in said
    assert "maesil prepare SCANS --out OTHER --spacing-mm 1\n" in said


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (
            [("scans-p0", "a"), ("nobody", "b")],
            ("scan_id", "x"),
            "1 of 2 names in column 'scan_id' is not in the store",
        ),
        ([("scans-p0", "a"), ("scans-p1", "a")], ("scan_id", "x"), "all cases are of the class 'a'"),
        ([("scans-p0", "a"), ("scans-p0", "b")], ("scan_id", "x"), "has two classes: a and b"),
        ([("scans-p0", "a")], ("scan", "x"), r"scan_id or patient[\s\S]*first line: scan_id for names"),
        ([("scans-p0", "a", "b")], ("scan_id", "x", "y"), r"--label x \| y"),
    ],
)
def test_read_cases__refuses(
    rows: list[tuple[str, str]], header: tuple[str, ...], said: str, store: Path, tmp_path: Path
) -> None:
    path = written(tmp_path, rows, header)
    with pytest.raises(ConfigError, match=said):
        read_cases(path, ScanStore(store))


def test_read_cases__blanks_around_names_do_not_matter(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("scan_id, class\nscans-p0, a \n scans-p1,b\n")
    cases = read_cases(path, ScanStore(store))
    assert (cases.scans, cases.classes) == (("scans-p0", "scans-p1"), ("a", "b"))


def test_read_cases__by_patient_and_column(store: Path, tmp_path: Path) -> None:
    path = written(tmp_path, [("p0", "a", "7"), ("p1", "b", "8"), ("p2", "", "9")], ("patient", "x", "y"))
    cases = read_cases(path, ScanStore(store), "x")
    assert cases.scans == ("scans-p0", "scans-p1")
    with pytest.raises(ConfigError, match="no column 'z'"):
        read_cases(path, ScanStore(store), "z")


def test_scored__auroc_is_per_fold_and_intervals_are_over_patients() -> None:
    """The folds' models are right in themselves, but one says more of everything."""
    second = np.array([0.1, 0.2, 0.1, 0.2, 0.6, 0.7, 0.6, 0.7])
    cases = Cases(tuple("stuvwxyz"), tuple("aabbccdd"), np.array([0, 1, 0, 1, 0, 1, 0, 1]), CLASSES)
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    probabilities = np.stack([1 - second, second], axis=1)
    scores = scored(probabilities, cases, fold)
    assert scores["auroc"] == (1.0, 1.0, 1.0)
    right = (second > 0.5) == (cases.truth == 1)
    assert scores["accuracy"] == (0.5, *patient_interval(right.astype(float).tolist(), cases.patients))
    low, high = scores["calibration_error"][1:]
    assert low <= scores["calibration_error"][0] <= high
    single = scored(probabilities, replace(cases, patients=("a",) * 8), fold)
    assert all(np.isnan(ends).all() for _, *ends in single.values())


def test_classification_sheet__names_folds_that_lack_a_class() -> None:
    truth = np.array([0, 1, 2, 0, 1, 1, 2, 2])
    cases = Cases(tuple("stuvwxyz"), tuple("stuvwxyz"), truth, ("dense", "light", "rare"))
    fold = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    probabilities = np.eye(3)[truth]
    scores = scored(probabilities, cases, fold)
    assert scores["auroc"][0] == 1.0
    notes = classification_sheet(ClassificationConfig(folds=3), cases, fold, probabilities, scores).notes
    assert "Fold 1 has no case of rare: its auroc is the mean of its other classes." in notes
    assert "Fold 2 has cases of only one class: it has no auroc and is left out of the mean." in notes
    assert not any(note.startswith("Fold 0") for note in notes)
    assert "3 folds by patient: every scan is scored by a model that saw no scan of its patient." in notes[0]


def test_fold_of__says_which_fold_cannot_be(store: Path, tmp_path: Path) -> None:
    rows = [(f"scans-p{n}", "rare" if n == 0 else "common") for n in range(COUNT)]
    cases = read_cases(written(tmp_path, rows), ScanStore(store))
    with pytest.raises(ConfigError, match=r"fold \d of 3 has (only one class to test|no case of 'rare' to train on)"):
        fold_of(cases, 3, 0)
    with pytest.raises(ConfigError, match="leave out or add patients to: rare"):
        fold_of(cases, 2, 0)
    with pytest.raises(ConfigError, match="a single fold leaves no case to train on"):
        fold_of(cases, 1, 0)
