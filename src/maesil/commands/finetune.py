"""`maesil finetune TASK`: a command per task."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from maesil.catalog import Catalog, listing
from maesil.errors import ConfigError

TASKS = Catalog(
    "task",
    {
        "segmentation": "a UNETR-style decoder on the encoder, on scans prepared with --labels",
        "classification": "probes of frozen features, or full fine-tuning, from a CSV of classes",
    },
)
"""Name to purpose; the command itself is the function `main` of `maesil.commands.finetune_NAME`."""

OVERVIEW = """maesil finetune: train a downstream task on a pre-trained encoder

{tasks}

`maesil finetune TASK --help` explains each.

Examples:
  maesil finetune segmentation --init runs/base --data.store store --labels.classes liver spleen --run runs/organs
  maesil finetune classification --init runs/base --data.store store --labels labels.csv --run runs/probe
"""


def main(words: Sequence[str]) -> int:
    """Runs the task's command."""
    if words and words[0] in ("-h", "--help"):
        print(OVERVIEW.format(tasks=listing(TASKS)))  # noqa: T201 (the requested help)
        return 0
    if not words or words[0].startswith("-"):
        raise ConfigError("no task is given", fix=f"maesil finetune TASK ..., one of: {', '.join(TASKS)}")
    TASKS[words[0]]  # raises for an unknown name and suggests the nearest one
    code: int = import_module(f"maesil.commands.finetune_{words[0]}").main(words[1:])
    return code
