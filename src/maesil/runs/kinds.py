"""Kinds of runs: the error for a run of another kind says which commands fit it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maesil.catalog import NONE
from maesil.errors import CheckpointError, ConfigError
from maesil.files import quoted, read_json
from maesil.runs.claim import SETTINGS
from maesil.runs.published import published_names

PRETRAINING, SEGMENTATION, CLASSIFICATION = "pre-training", "segmentation", "classification"
COMPARISON, LABEL_EFFICIENCY, PROBE, ENCODER = "comparison", "comparison of starts", "probe", "exported encoder"
COMPARED, EXPERIMENT = "comparison.json", "experiment.json"
"""The files with the settings of `maesil compare` and of `maesil compare-transfer` in their folders."""
SCORES = "scores.jsonl"
"""The file with scores in the folder of an evaluation, a fine-tuning or a probe."""
EXPORTED = "transfer.json"
"""The file that an exported encoder has beside its weights."""
MADE_BY: Mapping[str, str] = {
    PRETRAINING: "maesil pretrain",
    SEGMENTATION: "maesil finetune segmentation",
    CLASSIFICATION: "maesil finetune classification",
    COMPARISON: "maesil compare",
    LABEL_EFFICIENCY: "maesil compare-transfer",
    PROBE: "maesil probe",
    ENCODER: "maesil export",
}
"""Kind of results in a folder to the command that writes them."""
FITTING: Mapping[str, str] = {
    PRETRAINING: "maesil evaluate {run} scores it, and maesil finetune segmentation --init {run} ... trains from it",
    SEGMENTATION: "maesil predict {run} SCAN --out FILE segments a scan, and {run}/table.md has the scores",
    CLASSIFICATION: "{run}/table.md has the scores, and {run}/predictions.csv the predictions",
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
        settings = {**(_settings(run / SETTINGS) or {}), **record.get("config", {})}  # a path is not in a checkpoint
        raise _other(run, kind, wanted, settings.get("init"))
    if "config" not in record:
        raise CheckpointError(f"this is not a {wanted} run: config.json has no settings of a run", where=run)


def refuse_other_kind(folder: Path, kind: str) -> None:
    """Checks that a folder is new or holds results of this kind: those of two kinds would make it unreadable.

    A folder that holds both already may be finished.

    Raises:
        ConfigError: It holds results of another kind only.
    """
    held = kinds_in(folder)
    if held and kind not in held:
        what = f"this folder holds what `{MADE_BY[held[0]]}` wrote, and a {kind} needs a folder of its own"
        raise ConfigError(what, where=folder, fix="give a new folder")


def kinds_in(folder: Path) -> list[str]:
    """The kinds of results that a folder holds; none for a new one."""
    settings = _settings(folder / SETTINGS)
    segmented = settings is not None and "labels" in settings
    found = {
        PRETRAINING: settings is not None and not segmented,
        SEGMENTATION: segmented,
        CLASSIFICATION: _classification(folder) is not None,
        COMPARISON: (folder / COMPARED).is_file(),
        LABEL_EFFICIENCY: (folder / EXPERIMENT).is_file(),
        PROBE: "probe" in _first_score(folder / SCORES),
        ENCODER: (folder / EXPORTED).is_file(),
    }
    return [kind for kind, there in found.items() if there]


def _settings(path: Path) -> Mapping[str, Any] | None:
    """A run's settings; None if there are none, and nothing of those that cannot be read."""
    if not path.is_file():
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _classification(folder: Path) -> Mapping[str, Any] | None:
    """The settings of a classification; None if a folder holds none."""
    try:
        settings = read_json(folder / "config.json")["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return settings if isinstance(settings, dict) else None


def _first_score(path: Path) -> Mapping[str, Any]:
    """The first row of a file of scores; nothing if there is none."""
    try:
        with path.open(encoding="utf-8") as lines:
            row = json.loads(next(lines, "{}"))
    except (OSError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


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
        fix = f"give the folder that `{MADE_BY[wanted]}` wrote"
        if str(run) in published_names():
            what = f"this is the name of published weights, and this command needs a {wanted} run"
            takers = "maesil.load, maesil embed, probe, reconstruct and export, and --init take the name"
            raise CheckpointError(what, where=run, fix=f"{fix}; {takers}")
        raise CheckpointError("this run does not exist", where=run, fix=fix)
    if (run / EXPORTED).is_file() and not holds_run(run):
        fix = "give the run that it was exported from; an encoder alone is for maesil embed and maesil finetune --init"
        raise CheckpointError(f"this is an exported encoder, not a {wanted} run", where=run, fix=fix)
    settings = _classification(run)
    # Earlier versions wrote one into a run's folder, too, whose checkpoints can still be read.
    if settings is not None and not (run / "checkpoints").is_dir():
        raise _other(run, CLASSIFICATION, wanted, settings.get("init"))


def _other(run: Path, kind: str, wanted: str, init: str | None) -> CheckpointError:
    advice = [FITTING[kind].format(run=quoted(run))] if kind in FITTING else []
    began = wanted == PRETRAINING and init not in (None, NONE)
    start = f", such as the one it started from: {quoted(str(init))}" if began else ""
    advice.append(f"this command needs a {wanted} run{start}")
    return CheckpointError(f"this is a {kind} run, not a {wanted} run", where=run, fix="; ".join(advice))
