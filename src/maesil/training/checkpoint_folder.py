"""Where a checkpoint is and what its description says, without loading its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maesil.errors import CheckpointError, reason
from maesil.store.format import MANIFEST

CONFIG, WEIGHTS, CARD, STATE = "config.json", "model.safetensors", "card.md", "trainer.ckpt"


def checkpoint_folder(path: Path, which: str = "last") -> Path:
    """Finds the checkpoint folder of `path`, which is a run folder or a checkpoint folder itself.

    Raises:
        CheckpointError: The path does not exist or holds no checkpoint.
    """
    for candidate in (path, path / "checkpoints" / which):
        if (candidate / WEIGHTS).is_file() and (candidate / CONFIG).is_file():
            return candidate
    if not path.exists():
        raise CheckpointError("this run does not exist", where=path, fix="give the folder that `maesil pretrain` wrote")
    if (path / MANIFEST).is_file():
        raise CheckpointError(
            "this is a store of scans, not a run", where=path, fix="give the folder that `maesil pretrain` wrote"
        )
    if path.is_file():
        raise CheckpointError(
            "this is a file, not a run", where=path, fix="give the folder that `maesil pretrain` wrote"
        )
    runs = sorted(each.name for each in path.iterdir() if (each / "checkpoints").is_dir())
    if runs:
        raise CheckpointError(
            f"this folder holds runs, and is none: {', '.join(runs)}", where=path, fix="give one of them"
        )
    raise CheckpointError(
        f"no checkpoint '{which}' in this folder",
        where=path,
        fix="run `maesil pretrain` first, or wait until it has written its first checkpoint",
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Reads a checkpoint's config.json."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{CONFIG} cannot be read: {reason(error)}", where=folder) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{CONFIG} was not written by maesil", where=folder)
    return config
