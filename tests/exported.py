"""How the folder of each export target gives features, in the tool that it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import maesil
from maesil.encoder.card import Transfer
from maesil.models import MAEConfig

Features = Callable[[Path, torch.Tensor], torch.Tensor]


def from_maesil(folder: Path, volume: torch.Tensor) -> torch.Tensor:
    return maesil.load(folder)(volume)


def from_huggingface(folder: Path, volume: torch.Tensor) -> torch.Tensor:
    from maesil.export.huggingface import HubBackbone

    encoder = HubBackbone.from_pretrained(folder)
    torch.testing.assert_close(maesil.load(folder)(volume), encoder.eval()(volume))
    return encoder(volume)


def from_monai(folder: Path, volume: torch.Tensor) -> torch.Tensor:
    from monai.networks.nets import ViT

    sizes = json.loads((folder / "transfer.json").read_text())["notes"]["vit"]
    vit = ViT(**sizes).eval()
    vit.load_state_dict(load_file(folder / "vit.safetensors"), strict=True)
    tokens, _ = vit(volume)
    return as_map(tokens, Transfer.read(folder).config())


def from_onnx(folder: Path, volume: torch.Tensor) -> torch.Tensor:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(folder / "encoder.onnx", providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"volume": volume.numpy()})[0])


def from_torchscript(folder: Path, volume: torch.Tensor) -> torch.Tensor:
    return torch.jit.load(folder / "encoder.pt")(volume)


def from_nnunet(folder: Path, volume: torch.Tensor) -> torch.Tensor:
    """In a process of its own: timm needs a torchvision that a CPU build of torch cannot import."""
    packages = Path(sys.prefix) / "interop"
    if not (packages / "dynamic_network_architectures").is_dir():
        pytest.skip("dynamic_network_architectures is not installed in the environment's interop folder")
    save_file({"volume": volume}, folder / "volume.safetensors")
    script = Path(__file__).parent / "export" / "primus_features.py"
    code = Path(maesil.__file__).parents[1]  # that of this checkout, wherever an installed one is
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (packages, code)))}
    done = subprocess.run(
        [sys.executable, script, folder], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return load_file(folder / "features.safetensors")["features"]


LOADED_BACK: dict[str, Features] = {
    "safetensors": from_maesil,
    "huggingface": from_huggingface,
    "monai": from_monai,
    "nnunet": from_nnunet,
    "onnx": from_onnx,
    "torchscript": from_torchscript,
}


def as_map(tokens: torch.Tensor, config: MAEConfig) -> torch.Tensor:
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *config.grid.shape)
