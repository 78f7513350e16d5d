"""What a folder holds into which an encoder is exported: an earlier export of the same weights may be replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from maesil.encoder.card import Transfer
from maesil.errors import CheckpointError, ConfigError
from maesil.runs.claim import changed_settings, differences_text
from maesil.runs.kinds import EXPORTED

DIGEST = "encoder_sha256"
"""The note of transfer.json with the digest of the encoder's weights, by which an export of the same is known."""
OTHER_FOLDER = "give another folder: --out DIR; or remove this one first"
DESCRIBED = ("preset", "step", "model", "low_hu", "high_hu", "voxels", "masking", "datasets", "commit")
"""What says which weights an export has that an earlier version wrote, without their digest."""


def require_same_weights(out: Path, transfer: Transfer, digest: str) -> None:
    """Checks that a folder is no export of other weights than these.

    An export without a digest is compared by its description: trainings that differ in their seed alone look the same.

    Args:
        out: The output folder, which may be new.
        transfer: The description of the encoder.
        digest: SHA-256 of its weights, from `digest_of`.

    Raises:
        ConfigError: It is one, or nothing says which weights it has.
    """
    if not (out / EXPORTED).is_file():
        return
    try:
        there = Transfer.read(out)
    except CheckpointError as error:
        what = f"nothing tells which weights this folder has: {error.what}"
        raise ConfigError(what, where=out, fix=OTHER_FOLDER) from error
    differing = changed_settings(_described(there), _described(transfer))
    recorded = there.notes.get(DIGEST)
    if recorded == digest or (recorded is None and not differing):
        return
    parts = differences_text(differing) if differing else "they are of another training with the same settings"
    raise ConfigError(
        f"this folder has other weights, exported for {there.target} from preset {there.preset}, step {there.step}: "
        f"{parts}",
        where=out,
        fix=OTHER_FOLDER,
    )


def _described(transfer: Transfer) -> Mapping[str, object]:
    """As transfer.json has it: tuples are lists there."""
    described: Mapping[str, object] = json.loads(json.dumps({name: getattr(transfer, name) for name in DESCRIBED}))
    return described
