"""What version 0.1 wrote is read: a store, a run, an export, a fine-tuned run, scores and settings of a comparison.

`fixtures/version-0.1.zip` was written by the commands of 0.1 (12152c5) on four synthetic scans of 32 x 32 x 40 voxels:
`prepare --labels`, `pretrain` (4 steps), `evaluate`, `export`, `finetune segmentation` (2 steps) and `compare`.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import pytest
import torch

import maesil
from maesil import pipeline
from maesil.config import from_dict, load_yaml
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.scores import Score, read_scores
from maesil.files import read_json
from maesil.store.scanstore import ScanStore

FIXTURE = Path(__file__).parent / "fixtures" / "version-0.1.zip"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folders, in a place of their own; their files name it."""
    with zipfile.ZipFile(FIXTURE) as archive:
        archive.extractall(tmp_path)
    for path in (*tmp_path.rglob("*.yaml"), *tmp_path.rglob("*.json")):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("@HERE@", str(tmp_path)), encoding="utf-8")
    for run in ("run", "finetuned"):
        (step,) = (tmp_path / run / "checkpoints").iterdir()
        step.with_name("last").symlink_to(step.name)
    return tmp_path


def masked_psnr(scores: tuple[Score, ...] | list[Score], model: str) -> float:
    wanted = ("psnr", "masked")
    (value,) = (s.value for s in scores if s.model == model and (s.metric, s.region) == wanted)
    return value


def test_evaluate__a_run_of_0_1_scores_as_it_did(old: Path) -> None:
    before = read_scores(old / "run" / "evaluation" / "test" / "scores.jsonl")
    now = pipeline.evaluate(old / "run", protocol=Protocol(lpips=None, mask_draws=1)).scores
    for model in ("maesil", "interpolation", "mean"):
        assert masked_psnr(now, model) == pytest.approx(masked_psnr(before, model), abs=1e-3)


def test_pretrain__a_run_of_0_1_is_known_as_finished(old: Path) -> None:
    assert pipeline.pretrain(load_yaml(old / "run" / "config.yaml"), old / "run").status == "already finished"


def test_load__a_run_and_an_export_of_0_1_are_one_encoder(old: Path) -> None:
    superpatch = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = [maesil.load(old / source)(superpatch) for source in ("run", "export")]
    torch.testing.assert_close(*features)


def test_score_segmentation__a_run_of_0_1(old: Path) -> None:
    scored = pipeline.score_segmentation(old / "finetuned")
    assert all(math.isfinite(row["dice"]) for row in scored.rows)


def test_scan_store__of_0_1(old: Path) -> None:
    store = ScanStore(old / "store")
    assert [entry.patient for entry in store.entries] == ["a", "b", "c", "d"]
    volume = store.volume(store.entries[0].scan_id)
    assert volume.array.shape == (32, 32, 40)
    assert volume.array.min() < -900 < 0 < volume.array.max()


@pytest.mark.parametrize("name", ["maesil", "vae_channels=_8_16_latent_channels=4"])
def test_comparison__settings_and_scores_of_0_1(old: Path, name: str) -> None:
    folder = old / "compared" / "models" / name
    kept = read_json(folder / "budget.json")
    assert from_dict(kept["config"]).seed == 0
    assert kept["steps"] == 2
    assert {score.metric for score in read_scores(folder / "scores.jsonl")} == {"psnr", "ssim"}
