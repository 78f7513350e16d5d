"""`maesil datasets`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from maesil.commands.parsing import console, lists, parse, print_json
from maesil.counts import count_of
from maesil.ct.readers.options import ReadOptions
from maesil.datasets.layouts import LAYOUTS
from maesil.datasets.overview import HEADER, rows_of
from maesil.datasets.scan import matches_text
from maesil.datasets.splits import SplitConfig
from maesil.datasets.unify import Unified
from maesil.datasets.weighting import Weighting
from maesil.files import quoted
from maesil.screen import scan_bar

LISTED = 20
"""How many problems, and how many notices, are printed one by one; the rest are only counted."""

DRAWN = (
    "drawn in training: by-scan weights a dataset by its superpatches, not by its scans; this table counts them from "
    "headers, at 1.5 mm, including those that are all air"
)


@lists(layouts=LAYOUTS)
@dataclass(frozen=True)
class Datasets:
    """List what folders of CT contain (Table I of the paper), and merge them into one dataset.

    Reports the layout detected for each folder: {layouts}. Reads only headers. With --out, writes the list of scans
    with splits by patient, which `maesil prepare` accepts as a source; the list contains local paths and is as private
    as the scans. Exit status 1: something cannot be used.

    Examples:
      maesil datasets BTCV LIDC-IDRI Totalsegmentator_dataset --out scans.json
      maesil prepare scans.json --out store
      maesil datasets scans/ --layout folder --table table1.md
    """

    roots: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of collections."""
    out: Path | None = None
    """The list of scans to write; patients in an existing list keep their split."""
    table: Path | None = None
    """Also write Table I to this file: .md, .tex or .csv."""
    layout: Annotated[str | None, tyro.conf.arg(metavar="|".join(LAYOUTS))] = None
    """Layout of the folders; by default detected from each folder's files."""
    dataset: str | None = None
    """One dataset name for all of them; by default each collection's own."""
    keep_names: bool = False
    """Keep the names of all files and folders; by default, those that may name a patient are hashed."""
    splits: SplitConfig = field(default_factory=SplitConfig)
    """Splits of patients whose collection defines none."""
    weighting: Weighting = "by-scan"
    """Weighting for Table I's share of training draws per dataset; the same as `pretrain`'s --data.weighting."""
    temperature: float = 0.5
    """Exponent of the weighting `temperature`: 1 equals by-scan, 0 equals by-dataset."""
    reading: tyro.conf.OmitArgPrefixes[ReadOptions] = field(default_factory=ReadOptions)
    """Scans that are refused otherwise; give `prepare` the same options."""
    json: bool = False
    """Print the outcome as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Reads the folders, prints Table I, and writes the list of scans."""
    call = parse(Datasets, "datasets", words)
    from maesil import pipeline
    from maesil.report.table1 import require_table1

    if call.table is not None:
        require_table1(call.table)
    screen = console()
    with scan_bar(screen, "looking") as progress:
        unified = pipeline.datasets(
            call.roots,
            layout=call.layout,
            dataset=call.dataset,
            keep_names=call.keep_names,
            splits=call.splits,
            out=call.out,
            weighting=call.weighting,
            temperature=call.temperature,
            options=call.reading,
            progress=progress,
        )
    for line in matches_text((match.source, match.layout, match.because) for match in unified.matched):
        screen.print(line, markup=False)
    _print_problems(unified)
    if call.table is not None:
        pipeline.write_table1(unified, call.table)
    if call.json:
        print_json({"collections": [asdict(row) for row in unified.collections], "problems": len(unified.problems)})
    else:
        _print_table(unified)
        screen.print(DRAWN)
    if call.out is not None:
        listed = f"{count_of(len(unified.scans), 'scan')} listed: {call.out}"
        labelled = sum(row.labelled for row in unified.collections)
        labels = f"; with --labels, it stores the labels of {count_of(labelled, 'scan')}, too" if labelled else ""
        screen.print(f"{listed}; next: maesil prepare {quoted(call.out)} --out STORE{labels}", markup=False)
    return 1 if unified.problems else 0


def _print_table(unified: Unified) -> None:
    """Prints Table I, in several parts if the collections do not fit side by side: words are not cut."""
    screen = Console()
    parts: list[list[tuple[str, ...]]] = []
    for row in rows_of(unified.collections, unified.patients):
        if parts and _width_of(_table([*parts[-1], row]), screen) <= screen.width:
            parts[-1].append(row)
        else:
            parts.append([row])
    for number, rows in enumerate(parts):
        screen.print(_table(rows, "Table I, continued" if number else "Table I"))


def _table(rows: Sequence[tuple[str, ...]], title: str = "") -> Table:
    """The table of some collections, a column for each: a terminal is narrow."""
    table = Table("", *(row[0] for row in rows), title=title, title_justify="left")
    for place, name in enumerate(HEADER[1:], start=1):
        table.add_row(name, *(row[place] for row in rows))
    return table


def _width_of(table: Table, screen: Console) -> int:
    """Width of a table in characters, if nothing is wrapped."""
    return Measurement.get(screen, screen.options.update(max_width=sys.maxsize), table).maximum


def _print_problems(unified: Unified) -> None:
    screen = console()
    for what, listed in (("cannot be used", unified.problems), ("note", unified.notices)):
        for problem in listed[:LISTED]:
            fix = f" ({problem.fix})" if problem.fix else ""
            place = problem.path or problem.source
            where = "" if place == "." else f"{place}: "  # "." is all sources
            screen.print(f"{what}: {where}{problem.told}{fix}", markup=False)
        if len(listed) > LISTED:
            screen.print(f"{what}: {len(listed) - LISTED} more of this kind", markup=False)
