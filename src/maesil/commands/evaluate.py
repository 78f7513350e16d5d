"""`maesil evaluate`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from maesil.commands.early import value_of
from maesil.commands.parsing import console, lists, parse
from maesil.errors import ConfigError
from maesil.evaluation.measures import METRICS
from maesil.evaluation.protocol import PROTOCOLS, Protocol
from maesil.masking import MASKINGS
from maesil.models import UNTRAINED
from maesil.screen import scan_bar


@lists(readings=PROTOCOLS, untrained=UNTRAINED, maskings=MASKINGS, metrics=(each.heading for each in METRICS.values()))
@dataclass(frozen=True)
class Evaluate:
    """Score a run on held-out scans, next to models that learn nothing: {untrained}.

    The protocol that --reading names is one of {readings}. Its settings are flags; values of --protocol.masks:
    {maskings}.

    Writes RUN/evaluation/SPLIT/: scores.jsonl (one row per scan, model, metric and region) and the table as .md, .tex
    and .csv. Scores on another store than the run's are in SPLIT-store-FINGERPRINT/; `maesil report` shows both. Scores
    under other masks are in SPLIT-unmasked/, SPLIT-MASKS/ and SPLIT-whole-scan/. Metrics: {metrics}.

    Examples:
      maesil evaluate runs/base
      maesil evaluate runs/base --data.store other-store --split val
      maesil evaluate runs/base --json scores.json
      maesil evaluate runs/base --reading unmasked       (the network sees every voxel; don't mix with masked scores)
      maesil evaluate runs/base --protocol.masks shared_plane
    """

    run: tyro.conf.Positional[Path | None] = None
    """The run folder."""
    store: Annotated[tuple[Path, ...] | None, tyro.conf.arg(name="data.store")] = None
    """A store, or several, to use in place of the run's own."""
    split: Literal["train", "val", "test"] = "test"
    """The split to score."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of the run's checkpoints to load."""
    reading: str = "masked"
    """The named protocol whose settings the protocol's flags change."""
    protocol: Protocol = field(default_factory=Protocol)
    """What is scored, and how."""
    json: Path | None = None
    """Also write the scores to this JSON file."""


def main(words: Sequence[str]) -> int:
    """Scores the run and prints the table."""
    reading = value_of(words, "--reading") or "masked"
    call = parse(Evaluate, "evaluate", words, Evaluate(protocol=PROTOCOLS[reading]()))
    if call.run is None:
        raise ConfigError("no run folder is given", fix="maesil evaluate RUN")
    from maesil import pipeline
    from maesil.report.repeat import scored_words

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
    kept, page = f"scores and tables: {evaluation.folder}", ""
    if not call.protocol.folder_ending:  # scores under other masks have no page
        page = "; next: " + shlex.join(["maesil", "report", str(call.run), *scored_words(call.split, call.store)])
    console().print(kept + page, markup=False)
    return 0
