"""`maesil report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from maesil.commands.parsing import console, parse, print_json
from maesil.screen import scan_bar


@dataclass(frozen=True)
class Report:
    """Write a run's page: protocol, table, loss curve, and reconstructions in three views. One self-contained file.

    A picture of the first scan (.png) is written next to the page.

    Examples:
      maesil report runs/base
      maesil report runs/base --scans case1 case7 --out base.html
    """

    run: tyro.conf.Positional[Path]
    """The run folder; it must have been evaluated."""
    out: Path | None = None
    """The page; by default RUN/report.html, or RUN/report-SPLIT.html for another split than test; of another store than
    the run's, RUN/report-SPLIT-store-FINGERPRINT.html."""
    split: Literal["train", "val", "test"] = "test"
    """The split whose evaluation is shown."""
    scans: tuple[str, ...] = ()
    """Scans to show; the first two of the split by default."""
    store: Annotated[tuple[Path, ...] | None, tyro.conf.arg(name="data.store")] = None
    """The store that was scored, or the stores, if they are not the run's own."""
    json: bool = False
    """Print the page's path as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Writes the page and prints its path."""
    call = parse(Report, "report", words)
    from maesil import pipeline

    with scan_bar(console(), "rebuilding") as progress:
        page = pipeline.report(
            call.run, out=call.out, split=call.split, scans=call.scans, store=call.store, progress=progress
        )
    if call.json:
        print_json({"page": page})
    else:
        print(page)  # noqa: T201 (the result, on standard output)
    return 0
