"""The examples run, as they are called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backbones import small_backbone, small_card
from conftest import TINY_MODEL
from labelled import labelled_store
from maesil.export.targets import export

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "out"
    return export(small_backbone(TINY_MODEL), small_card(TINY_MODEL), "safetensors", folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_store(tmp_path_factory.mktemp("labelled"), scale=0.6)  # few windows: they are most of the time


def output(name: str, *words: object) -> str:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples__are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples__a_missing_argument_is_one_line(path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(path), "one"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"usage: python examples/{path.name} RUN ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_encoder_in_monai(encoder: Path, store: Path) -> None:
    printed = output("encoder_in_monai.py", encoder, store.parent / "scans" / "a.nii.gz")
    assert "feature map (1, 24, 4, 4, 4)" in printed


@pytest.mark.slow
def test_finetune_segmentation(encoder: Path, store: Path, tmp_path: Path) -> None:
    printed = output("finetune_segmentation.py", encoder, store.parent / "scans", tmp_path / "out", 4)
    assert "| label_1 | 2 |" in printed
    assert (tmp_path / "out" / "segmented_a.nii.gz").is_file()


@pytest.mark.slow
def test_embed_and_cluster(encoder: Path, store: Path, tmp_path: Path) -> None:
    printed = output("embed_and_cluster.py", encoder, store, tmp_path / "features.parquet", 2)
    assert "cluster 0:" in printed
    assert "cluster 1:" in printed
