"""The export for Hugging Face, as the real transformers loads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import maesil
from backbones import CONFIG, small_backbone, small_card
from maesil.export.huggingface import FILES, HubBackbone
from maesil.export.targets import export

PACKAGES = Path(sys.prefix) / "interop"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(small_backbone(), small_card(), "huggingface", tmp_path_factory.mktemp("hub") / "encoder")


@pytest.mark.interop
@torch.no_grad()
def test_huggingface__transformers_gives_the_same_tokens(exported: Path) -> None:
    """Without maesil: the folder has its own code. Without network: the process is offline."""
    if not (PACKAGES / "transformers").is_dir():
        pytest.skip("transformers is not installed in the environment's interop folder")
    hu = torch.randint(-1500, 1500, (2, *CONFIG.superpatch), generator=torch.Generator().manual_seed(0)).float()
    save_file({"hu": hu}, exported / "hu.safetensors")
    script = Path(__file__).parent / "transformers_features.py"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    call = [sys.executable, script, exported]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    encoder = maesil.load(exported)
    tokens = encoder.tokens(encoder.from_hu(hu[:, None]))
    torch.testing.assert_close(load_file(exported / "tokens.safetensors")["tokens"], tokens, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("voxels", "size"),
    [
        ({"policy": "cube", "cube": 12}, (16, 16, 16)),
        ({"policy": "spacing", "spacing_mm": 2.0}, (16, 8, 8)),
        ({"policy": "native"}, (8, 8, 16)),
    ],
)
def test_huggingface__the_processor_makes_the_voxels_of_the_pre_training(
    voxels: dict[str, object], size: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class alone, on a stub of transformers."""
    folder = export(small_backbone(), replace(small_card(), voxels=voxels), "huggingface", tmp_path / "encoder")
    stub = SimpleNamespace(BaseImageProcessor=type("Base", (), {"__init__": lambda self, **_: None}), BatchFeature=dict)
    monkeypatch.setitem(sys.modules, "transformers", stub)
    code: dict[str, Any] = {"__name__": "image_processing_maesil"}
    exec((folder / "image_processing_maesil.py").read_text(), code)
    processor = code["MaesilImageProcessor"](**json.loads((folder / "preprocessor_config.json").read_text()))
    hu = np.full((5, 7, 9), 100, dtype=np.int16)
    ready = processor.preprocess(hu, spacing_mm=(4.0, 2.0, 1.0))["pixel_values"]
    assert ready.shape == (1, 1, *size)
    assert ready[0, 0, 2, 2, 2] == pytest.approx(0.55)
    assert processor.preprocess(hu)["pixel_values"].shape == (1, 1, 8, 8, 16), (
        "without a spacing, it is as it should be"
    )


def test_huggingface__the_folder_and_its_card(exported: Path) -> None:
    assert all((exported / name).is_file() for name in (*FILES, "preprocessor_config.json", "model.safetensors"))
    assert HubBackbone.from_pretrained(exported).transfer.step == small_card().step
    _, front, _ = (exported / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["license"] == "other"
    assert about["library_name"] == "maesil"
    assert about["pipeline_tag"] == "image-feature-extraction"
    assert about["datasets"] == ["thorax"]
    text = (exported / "README.md").read_text()
    assert "one box (superpatch) of" in text
    assert "without those of air" in text
    assert "arxiv:2604.00514" in about["tags"]
