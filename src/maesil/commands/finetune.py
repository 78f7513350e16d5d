"""`maesil finetune TASK`: a command per task."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from maesil.catalog import Catalog
from maesil.errors import ConfigError

TASKS = Catalog(
    "task",
    {
        "segmentation": "maesil.commands.finetune_segmentation",
        "classification": "maesil.commands.finetune_classification",
    },
)

OVERVIEW = """maesil finetune: train a downstream task on a pre-trained encoder

  segmentation     a UNETR-style decoder on the encoder, on scans prepared with --labels
  classification   probes of frozen features, or full fine-tuning, from a CSV of classes

`maesil finetune TASK --help` explains each.

Examples:
  maesil finetune segmentation --init runs/base --data.store store --labels.classes liver spleen --run runs/organs
  maesil finetune classification --init runs/base --data.store store --labels labels.csv --run runs/probe
"""


def main(words: Sequence[str]) -> int:
    """Runs the task's command."""
    if words and words[0] in ("-h", "--help"):
        print(OVERVIEW)  # noqa: T201 (the requested help)
        return 0
    if not words or words[0].startswith("-"):
        raise ConfigError("no task is given", fix=f"maesil finetune TASK ..., one of: {', '.join(TASKS)}")
    command = import_module(TASKS[words[0]]).main
    code: int = command(words[1:])
    return code
