"""A checkpoint is a folder that loads without pickle: config.json, model.safetensors, card.md.

The folder also holds Lightning's state (trainer.ckpt), which is read only to resume a run. ``checkpoints/last`` and
``checkpoints/best`` are links that are replaced atomically, so a process killed at any moment leaves a complete
checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maesil.errors import CheckpointError
from maesil.files import as_umask_allows
from maesil.training.checkpoint_folder import CARD, CONFIG, WEIGHTS


def write_model(folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], card: str) -> None:
    """Writes config.json, model.safetensors and card.md into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(written, folder / WEIGHTS, metadata={"format": "pt"})
    as_umask_allows(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / CARD).write_text(card)


def publish(folder: Path, link: Path) -> None:
    """Atomically points `link` to its sibling `folder`; removes the old target unless another link points to it."""
    _flush(folder)
    previous = link.resolve() if link.is_symlink() else None
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name, target_is_directory=True)
    fresh.replace(link)
    linked = {other.resolve() for other in link.parent.iterdir() if other.is_symlink()}
    if previous is not None and previous not in linked:
        shutil.rmtree(previous, ignore_errors=True)


def _flush(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def sweep(checkpoints: Path) -> None:
    """Removes the folders that no link points to: a killed process left them behind."""
    if not checkpoints.is_dir():
        return
    linked = {entry.resolve() for entry in checkpoints.iterdir() if entry.is_symlink()}
    for entry in checkpoints.iterdir():
        if entry.is_dir() and not entry.is_symlink() and entry.resolve() not in linked:
            shutil.rmtree(entry, ignore_errors=True)  # every rank calls this


def load_weights(model: nn.Module, folder: Path) -> None:
    """Loads a checkpoint's weights into a model. Every name and shape must match.

    Raises:
        CheckpointError: The file is damaged, or names or shapes differ; the message says how.
    """
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise CheckpointError(
            f"damaged weights: {error}", where=folder / WEIGHTS, fix="copy the folder again"
        ) from error
    if misfits := _misfits(model.state_dict(), weights):
        more = f", and {len(misfits) - 1} more" if len(misfits) > 1 else ""
        fix = "use the config.json and the weights of one checkpoint"
        raise CheckpointError(f"the weights do not fit the model: {misfits[0]}{more}", where=folder, fix=fix)
    model.load_state_dict(weights, strict=True)


def _misfits(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """What keeps weights from fitting a model: a phrase for each tensor."""
    differ = [name for name in expected if name in weights and weights[name].shape != expected[name].shape]
    return [
        *(f"{name} is {list(weights[name].shape)}, not {list(expected[name].shape)}" for name in differ),
        *(f"{name} is missing" for name in expected if name not in weights),
        *(f"the model has no {name}" for name in weights if name not in expected),
    ]
