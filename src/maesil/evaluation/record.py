"""The record next to an evaluation's scores: which checkpoint was scored, under which protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from maesil.errors import CheckpointError
from maesil.evaluation.protocol import Protocol
from maesil.files import write_json

NAME = "notes.json"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Evaluated:
    """What was scored.

    Attributes:
        checkpoint: Which of the run's checkpoints was scored.
        step: The checkpoint's optimiser steps; its name may refer to a newer checkpoint by now.
        protocol: The protocol it was scored under.
        notes: Lines below the table.
        store: Fingerprint of the store whose scans were scored; None in earlier versions, which did not record it.
    """

    checkpoint: Literal["last", "best"]
    step: int
    protocol: Protocol
    notes: tuple[str, ...]
    store: str | None = None


_ADAPTER = TypeAdapter(Evaluated)


def scores_folder(run: Path, split: str, ending: str, *, given: str | None, own: str | None) -> Path:
    """Folder of a run's scores; those on a store that the caller names, or under other masks, are kept apart.

    Args:
        run: The run folder.
        split: Split that is scored.
        ending: `Protocol.folder_ending`.
        given: Fingerprint of the store that the caller named; None: the run's own is scored, even if it has grown.
        own: Fingerprint of the store that the run was trained on.
    """
    other = "" if given in (None, own) else f"-store-{given[:8]}"
    return run / "evaluation" / f"{split}{ending}{other}"


def write_record(folder: Path, evaluated: Evaluated) -> None:
    """Writes notes.json into an evaluation's folder."""
    write_json(folder / NAME, _ADAPTER.dump_python(evaluated, mode="json"))


def read_record(folder: Path) -> Evaluated:
    """Reads an evaluation's notes.json.

    Raises:
        CheckpointError: The file is absent, or does not say what was scored.
    """
    try:
        return _ADAPTER.validate_json((folder / NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            "the evaluation does not say what it scored", where=folder / NAME, fix="run `maesil evaluate` again"
        ) from error
