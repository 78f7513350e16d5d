"""`maesil datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from rich.table import Table

from maesil.commands.parsing import console, parse, print_json
from maesil.datasets.overview import HEADER, rows_of
from maesil.datasets.splits import SplitConfig
from maesil.datasets.unify import Unified
from maesil.datasets.weights import Weighting
from maesil.screen import scan_bar

LISTED = 20
"""Problems and notices that are printed one by one; the others are counted."""

DRAWN = (
    "drawn in training: by-scan weighs a dataset by its superpatches, not by its scans; here they are counted from "
    "headers, at 1.5 mm and with those that are all air"
)


@dataclass(frozen=True)
class Datasets:
    """See what folders of CT hold (Table I of the paper), and make one dataset of them.

    Says what each folder was taken for: btcv, lidc, totalsegmentator, nnunet, or a plain folder. Looks into headers
    only. With --out, writes the list of scans with splits by patient, which `maesil prepare` takes as a source; the
    list holds paths of this machine and is as private as the scans. Exit status 1: something cannot be used.

    Examples:
      maesil datasets BTCV LIDC-IDRI Totalsegmentator_dataset --out scans.json
      maesil prepare scans.json --out store
      maesil datasets scans/ --layout folder --table table1.md
    """

    roots: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of collections."""
    out: Path | None = None
    """The list of scans to write; patients that an earlier one has keep their split."""
    table: Path | None = None
    """Write Table I, too: .md, .tex or .csv."""
    layout: Literal["btcv", "lidc", "totalsegmentator", "nnunet", "folder"] | None = None
    """What the folders are; by default each is taken for what its files match."""
    dataset: str | None = None
    """A name for all of them; by default each collection's own."""
    splits: SplitConfig = field(default_factory=SplitConfig)
    """Splits of patients whose collection does not say."""
    weighting: Weighting = "by-scan"
    """Under which Table I says how often training draws from each; the same as --data.weighting of `pretrain`."""
    temperature: float = 0.5
    """With the weighting temperature: 1 is by-scan, 0 is by-dataset."""
    json: bool = False
    """Print the outcome as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Looks, prints Table I, and lists."""
    call = parse(Datasets, "datasets", words)
    from maesil import pipeline

    screen = console()
    with scan_bar(screen, "looking") as progress:
        unified = pipeline.datasets(
            call.roots,
            layout=call.layout,
            dataset=call.dataset,
            splits=call.splits,
            out=call.out,
            weighting=call.weighting,
            temperature=call.temperature,
            progress=progress,
        )
    for match in unified.matched:
        screen.print(f"{match.source}: {match.layout} ({match.because})", markup=False)
    _print_problems(unified)
    if call.table is not None:
        pipeline.write_table1(unified, call.table)
    if call.json:
        print_json({"collections": [asdict(row) for row in unified.collections], "problems": len(unified.problems)})
    else:
        _print_table(unified)
        screen.print(DRAWN)
    if call.out is not None:
        screen.print(f"{len(unified.scans)} scans listed: {call.out}; next: maesil prepare {call.out} --out STORE")
    return 1 if unified.problems else 0


def _print_table(unified: Unified) -> None:
    from rich.console import Console

    rows = rows_of(unified.collections)
    table = Table("", *(row[0] for row in rows), title="Table I", title_justify="left")
    for place, name in enumerate(HEADER[1:], start=1):  # collections side by side: a terminal is narrow
        table.add_row(name, *(row[place] for row in rows))
    Console().print(table)


def _print_problems(unified: Unified) -> None:
    screen = console()
    for what, listed in (("cannot be used", unified.problems), ("to know", unified.notices)):
        for problem in listed[:LISTED]:
            fix = f" ({problem.fix})" if problem.fix else ""
            screen.print(f"{what}: {problem.path or problem.source}: {problem.reason}{fix}", markup=False)
        if len(listed) > LISTED:
            screen.print(f"{what}: {len(listed) - LISTED} more of this kind", markup=False)
