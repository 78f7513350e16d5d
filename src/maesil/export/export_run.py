"""The command `export`: writes the encoder of a run for another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from maesil.encoder.load import load_with_card
from maesil.export.targets import export
from maesil.files import AnyPath


def export_run(run: str | Path, target: str, out: AnyPath, *, checkpoint: Literal["last", "best"] = "last") -> Path:
    """Writes a pre-trained encoder for another tool, with transfer.json and a model card.

    Args:
        run: Anything `maesil.load` accepts: a run, a checkpoint, an exported folder, a model on the hub.
        target: A name in `maesil.export.TARGETS`.
        out: The output folder: new, empty, or an earlier export of the same weights with the same files, which is
            replaced.
        checkpoint: Which of the run's checkpoints to load.

    Raises:
        CheckpointError: There is no such encoder.
        ConfigError: The output folder contains something else, or other weights.
        MissingExtraError: The target needs a package that is not installed.
    """
    out = Path(out)
    backbone, card = load_with_card(run, checkpoint=checkpoint)
    return export(backbone, card, target, out)
