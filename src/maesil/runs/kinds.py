"""Kinds of runs: the error for a run of another kind says which commands fit it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maesil.errors import CheckpointError
from maesil.files import quoted, read_json

PRETRAINING = "pre-training"
EXPORTED = "transfer.json"
"""The file that an exported encoder has beside its weights."""
MADE_BY: Mapping[str, str] = {"segmentation": "maesil finetune segmentation"}
"""Kind of run to the command that makes it; those that are not listed are of `maesil pretrain`."""
FITTING: Mapping[str, str] = {
    PRETRAINING: "maesil evaluate {run} scores it, and maesil finetune segmentation --init {run} ... trains from it",
    "segmentation": "maesil predict {run} SCAN --out FILE segments a scan, and {run}/table.md has the scores",
    "classification": "{run}/table.md has the scores, and {run}/predictions.csv the predictions",
}
"""Kind of run to what to do with it; the error for a kind that is not listed does not say this."""


def require_kind(run: Path, record: Mapping[str, Any], wanted: str = PRETRAINING) -> None:
    """Checks that a checkpoint is one of the kind of run that a command needs.

    Args:
        run: The run or checkpoint folder that the user gave.
        record: Contents of the checkpoint's config.json.
        wanted: The kind that is needed.

    Raises:
        CheckpointError: It is of another kind; the message says which commands fit.
    """
    kind = str(record.get("kind", PRETRAINING))
    if kind != wanted:
        raise _other(run, kind, wanted, record.get("config", {}).get("init"))
    if "config" not in record:
        raise CheckpointError(f"this is not a {wanted} run: config.json has no settings of a run", where=run)


def holds_run(folder: Path) -> bool:
    """Whether a folder has the settings of a run beside its weights, as checkpoints and published weights have."""
    try:
        return "config" in read_json(folder / "config.json")
    except (OSError, ValueError, TypeError):
        return False


def refuse_without_checkpoint(run: Path, wanted: str = PRETRAINING) -> None:
    """Checks that a folder exists, and is not of an exported encoder or a classification, which have no checkpoints.

    Raises:
        CheckpointError: There is none, or it is one of them; the message says what fits.
    """
    if not run.exists():
        fix = f"give the folder that `{MADE_BY.get(wanted, 'maesil pretrain')}` wrote"
        raise CheckpointError("this run does not exist", where=run, fix=fix)
    if (run / EXPORTED).is_file() and not holds_run(run):
        fix = "give the run that it was exported from; an encoder alone is for maesil embed and maesil finetune --init"
        raise CheckpointError(f"this is an exported encoder, not a {wanted} run", where=run, fix=fix)
    try:
        settings = read_json(run / "config.json")["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    raise _other(run, "classification", wanted, settings.get("init"))


def _other(run: Path, kind: str, wanted: str, init: str | None) -> CheckpointError:
    advice = [FITTING[kind].format(run=quoted(run))] if kind in FITTING else []
    began = wanted == PRETRAINING and init not in (None, "none")
    start = f", such as the one it started from: {quoted(str(init))}" if began else ""
    advice.append(f"this command needs a {wanted} run{start}")
    return CheckpointError(f"this is a {kind} run, not a {wanted} run", where=run, fix="; ".join(advice))
