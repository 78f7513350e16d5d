"""A run's checkpoints and the kind of run that they are of, without loading their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from maesil.errors import CheckpointError
from maesil.runs.kinds import PRETRAINING, refuse_without_checkpoint, require_kind
from maesil.training.checkpoint_folder import checkpoint_folder, read_config


def checkpoint_of(
    path: Path, which: Literal["last", "best"] = "last", kind: str = PRETRAINING
) -> tuple[Path, dict[str, Any]]:
    """Finds the checkpoint folder of a run of a kind, and reads its config.json.

    Raises:
        CheckpointError: There is no checkpoint, or it is of another kind of run; the message says which commands fit.
    """
    refuse_without_checkpoint(path, kind)
    folder = checkpoint_folder(path, which)
    record = read_config(folder)
    require_kind(path, record, kind)
    return folder, record


def steps_done(run: Path) -> int:
    """Optimiser steps of the run's last checkpoint; 0 if it has none."""
    try:
        return int(read_config(checkpoint_folder(run))["step"])
    except CheckpointError:
        return 0
