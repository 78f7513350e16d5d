"""`maesil evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from maesil.commands.parsing import console, parse
from maesil.evaluation.protocol import Protocol
from maesil.screen import scan_bar


@dataclass(frozen=True)
class Evaluate:
    """Score a run on held-out scans, beside a mean fill and an interpolation that learn nothing.

    Writes RUN/evaluation/SPLIT/: scores.jsonl (one row per scan, model, metric and region) and the table as .md, .tex
    and .csv.

    Examples:
      maesil evaluate runs/base
      maesil evaluate runs/base --data.store other-store --split val
      maesil evaluate runs/base --json scores.json
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    store: Annotated[Path | None, tyro.conf.arg(name="data.store")] = None
    """Another store than the run's own."""
    split: Literal["train", "val", "test"] = "test"
    """Which scans to score."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of the run's checkpoints."""
    protocol: Protocol = field(default_factory=Protocol)
    """What is scored, and how."""
    json: Path | None = None
    """Write the scores as one JSON file, too."""


def main(words: Sequence[str]) -> int:
    """Scores and prints the table."""
    call = parse(Evaluate, "evaluate", words)
    from maesil import pipeline

    with scan_bar(console(), "evaluating") as progress:
        evaluation = pipeline.evaluate(
            call.run,
            store=call.store,
            split=call.split,
            checkpoint=call.checkpoint,
            protocol=call.protocol,
            json_path=call.json,
            progress=progress,
        )
    print(evaluation.table)  # noqa: T201 (the result, on standard output)
    return 0
