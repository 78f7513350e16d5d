"""Loading a pre-trained encoder in one line: `maesil.load("runs/base")`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file

from maesil.encoder.card import WEIGHTS, Transfer
from maesil.encoder.pretrained import PretrainedEncoder
from maesil.encoder.source import HUB, local_folder
from maesil.errors import CheckpointError, ConfigError, DownloadError
from maesil.models.backbone import Backbone, backbone_of
from maesil.models.mae import MaskedAutoencoder
from maesil.models.transfer import transfer
from maesil.runs.kinds import EXPORTED, holds_run
from maesil.runs.load import load_run
from maesil.runs.published import require_sums


def load(source: str | Path, *, checkpoint: Literal["last", "best"] = "last", device: str = "cpu") -> PretrainedEncoder:
    """Loads a pre-trained encoder, in evaluation mode; its method `embed` takes a scan and returns its features.

    Nothing is unpickled: weights are safetensors, the rest is JSON. Every tensor must match.

    Args:
        source: A run, one of its checkpoints, an exported folder with model.safetensors, the name of published
            weights, or a model on the Hugging Face hub: "hf://organisation/name", or "organisation/name" if neither is
            a local folder. Published weights are in the package; others are fetched once, with their checksums.
        checkpoint: Which of a run's checkpoints to load.
        device: The encoder's device.

    Raises:
        CheckpointError: The source does not exist or is damaged, or tensors' names or shapes differ; the message lists
            them.
        DownloadError: The hub cannot be reached, or has no such model.
        ConfigError: The device is not here.
    """
    _require_device(device)
    return PretrainedEncoder(*load_with_card(source, checkpoint=checkpoint)).eval().to(device)


def _require_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
        said = str(error).splitlines()[0]
        fix = "maesil doctor shows the devices; device='cpu' always works"
        raise ConfigError(f"the device '{device}' cannot be used: {said}", fix=fix) from error


def load_with_card(source: str | Path, *, checkpoint: Literal["last", "best"] = "last") -> tuple[Backbone, Transfer]:
    """Like `load`, but also returns the description of the weights."""
    folder = local_folder(str(source)) or _downloaded(str(source).removeprefix(HUB))
    require_sums(folder)
    if (folder / EXPORTED).is_file() and not holds_run(folder):
        return _exported(folder)
    loaded = load_run(folder, checkpoint=checkpoint, device="cpu")
    card = Transfer.from_record(loaded.record)
    assert isinstance(loaded.model, MaskedAutoencoder)
    config = card.config()
    backbone = backbone_of(loaded.model.encoder, config, low_hu=card.low_hu, high_hu=card.high_hu)
    return backbone, card


def _exported(folder: Path) -> tuple[Backbone, Transfer]:
    card = Transfer.read(folder)
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(
            f"this folder was exported for {card.target}: it has no {WEIGHTS}",
            where=folder,
            fix="see its README.md to load it; for maesil.load: maesil export RUN --to safetensors --out DIR",
        )
    backbone = card.backbone()
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"damaged weights: {error}", where=folder / WEIGHTS, fix="copy the folder again"
        ) from error
    transfer(backbone, weights, where=folder / WEIGHTS)
    return backbone.eval(), card


def _downloaded(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "README.md"]))
    except Exception as error:  # the hub's errors, its HTTP library's, and OSError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DownloadError(
            f"'{name}' is not a local folder and could not be fetched from the Hugging Face hub: {reason}",
            fix="check the name and the network; a private model needs your own token (hf auth login)",
        ) from error
