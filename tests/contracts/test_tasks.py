"""What every downstream task promises, through `maesil finetune TASK`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backbones import random_volume, small_backbone, small_card
from conftest import TINY_MODEL
from labelled import CENTRES, labelled_store
from maesil.cli import main
from maesil.commands.finetune import TASKS
from maesil.export.targets import export
from maesil.models.backbone import Backbone
from maesil.runs.kinds import FITTING
from maesil.runs.lock import locked
from maesil.tasks.classification.network import Classifier
from maesil.tasks.segmentation.config import SegmentationConfig
from maesil.tasks.segmentation.network import Segmenter

NETWORKS: dict[str, Callable[[Backbone], torch.nn.Module]] = {
    "segmentation": lambda backbone: Segmenter(backbone, 2, SegmentationConfig(features=4)),
    "classification": lambda backbone: Classifier(backbone, 3),
}
"""The network of each task that trains its encoder."""

QUICK = ("--train.steps", "2", "--train.batch", "1", "--efficiency.precision", "32-true")

every_task = pytest.mark.parametrize("task", list(TASKS))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_store(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "out"
    return export(small_backbone(TINY_MODEL), small_card(TINY_MODEL), "safetensors", folder)


def words(task: str, encoder: Path, store: Path, run: Path, *more: str) -> list[str]:
    common = ["finetune", task, "--init", str(encoder), "--data.store", str(store), "--run", str(run), *QUICK, *more]
    if task == "segmentation":
        return [*common, "--labels.folds", "2", "--model.features", "4"]
    labels = run.with_suffix(".csv")
    with labels.open("w", newline="") as file:
        rows = [(f"scans-{name}", "odd" if at % 2 else "even") for at, name in enumerate(CENTRES)]
        csv.writer(file).writerows([("scan_id", "kind"), *rows])
    return [*common, "--labels", str(labels), "--mode", "full", "--folds", "2"]


def test_every_task_has_its_network() -> None:
    assert set(NETWORKS) == set(TASKS)
    assert set(TASKS) < set(FITTING)


@every_task
def test_task__a_run_is_locked_and_says_what_kind_it_is(
    task: str, encoder: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a run"
    with locked(run):
        assert main(words(task, encoder, store, run)) == 2
    assert "another call is writing this folder: process" in capsys.readouterr().err
    assert main(words(task, encoder, store, run)) == 0
    folders = [run, *run.glob("fold-0")]
    for folder in folders:
        for command in (
            ["evaluate", str(folder)],
            ["report", str(folder)],
            ["reconstruct", str(folder), "scan.nii.gz", "--out", str(tmp_path / "x.nii.gz")],
            ["embed", str(folder), str(store), "--out", str(tmp_path / "x.csv")],
            ["export", str(folder), "--to", "safetensors", "--out", str(tmp_path / "x")],
        ):
            capsys.readouterr()
            assert main(command) == 2
            error = capsys.readouterr().err
            assert f"this is a {task} run, not a pre-training run" in error, command
            assert FITTING[task].format(run=f"'{folder}'") in error, command
            assert (f"the one it started from: {encoder}" in error) == (folder == run), command


@pytest.mark.slow
@every_task
def test_command__scores_unseen_patients_and_keeps_what_is_done(
    task: str, encoder: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(words(task, encoder, store, run)) == 0
    table = capsys.readouterr().out
    assert (run / "table.md").read_text().strip() == table.strip()
    assert list(run.glob("scores.json*")), "scores for programs"
    trained = {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")}
    assert trained
    assert not list(run.rglob("*.pkl"))
    assert main(words(task, encoder, store, run)) == 0
    assert capsys.readouterr().out == table, "asked again, it says the same"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("model.safetensors")} == trained
    assert main(words(task, encoder, store, run, "--seed", "9")) == 2
    assert "other settings" in capsys.readouterr().err


@every_task
@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"init": "nowhere"}, "there is no such folder"),
        ({"store": "nowhere"}, "there is no store here"),
        ({"voxels": "1.0"}, "other voxels"),
    ],
)
def test_command__says_what_is_wrong(
    task: str, spoilt: dict[str, str], said: str, encoder: Path, store: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if "voxels" in spoilt:
        card = replace(small_card(TINY_MODEL), voxels={"policy": "spacing", "spacing_mm": float(spoilt["voxels"])})
        encoder = export(small_backbone(TINY_MODEL), card, "safetensors", tmp_path / "other")
    encoder, store = Path(spoilt.get("init", encoder)), Path(spoilt.get("store", store))
    assert main(words(task, encoder, store, tmp_path / "run")) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


@every_task
def test_network__gradients_reach_the_encoder(task: str) -> None:
    backbone = small_backbone()
    network = NETWORKS[task](backbone)
    network(random_volume(backbone)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
    assert any(p is q for p in network.parameters() for q in backbone.parameters()), "its weights are the encoder's"
    assert all(p.grad is not None and p.grad.any() for p in backbone.parameters())
