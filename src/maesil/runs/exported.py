"""The description of an exported encoder, as plain values: `transfer.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maesil.errors import CheckpointError, reason
from maesil.files import read_json
from maesil.runs.kinds import EXPORTED

FORMAT = 2
"""Format version of transfer.json, raised whenever old versions of maesil could not read a new file."""
READABLE = (1, 2)
"""Format versions that can be read; version 1 does not record which patients the encoder was trained on."""
NEEDED: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("model", "voxels", "masking", "datasets"), dict),
    **dict.fromkeys(("low_hu", "high_hu"), (int, float)),
    **dict.fromkeys(("preset", "maesil"), str),
    "step": int,
}
"""Values that every version writes, and their types."""


def read_exported(folder: Path) -> dict[str, Any]:
    """Reads a folder's transfer.json.

    Raises:
        CheckpointError: The file is absent, damaged, or in a newer format.
    """
    path = folder / EXPORTED
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{EXPORTED} cannot be read: {reason(error)}", where=folder) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{EXPORTED} was not written by maesil: it has no names of values", where=path)
    if values.get("format") not in READABLE:
        raise CheckpointError(
            f"{EXPORTED} has format {values.get('format')}; this maesil reads {' and '.join(map(str, READABLE))}",
            where=path,
            fix="export the run again with this version, or install the version that wrote it",
        )
    wrong = [name for name, kind in NEEDED.items() if not isinstance(values.get(name), kind)]
    if wrong:
        raise CheckpointError(f"{EXPORTED} was not written by maesil: no sound {', '.join(wrong)}", where=path)
    return values
