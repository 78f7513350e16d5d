"""The export for Hugging Face, as the real transformers loads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def test_huggingface__the_folder_and_its_card(exported: Path) -> None:
    assert all((exported / name).is_file() for name in (*FILES, "preprocessor_config.json", "model.safetensors"))
    assert HubBackbone.from_pretrained(exported).transfer.step == small_card().step
    _, front, _ = (exported / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["license"] == "other"
    assert about["library_name"] == "maesil"
    assert about["pipeline_tag"] == "image-feature-extraction"
    assert about["datasets"] == ["thorax"]
    assert "arxiv:2604.00514" in about["tags"]
