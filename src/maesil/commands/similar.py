"""`maesil similar`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from maesil.commands.parsing import parse, print_json


@dataclass(frozen=True)
class Similar:
    """Find the scans nearest to a scan, or the regions nearest to one of its regions, in a table of features.

    Examples:
      maesil similar features.parquet LIDC-IDRI-0314
      maesil similar features.parquet LIDC-IDRI-0314 --at -62.5 -110 -75      (LPS mm; nearest regions)
    """

    features: tyro.conf.Positional[Path]
    """The table that `maesil embed` wrote."""
    scan: tyro.conf.Positional[str]
    """The query: a scan of the table."""
    at: tuple[float, float, float] | None = None
    """A position in the scan, in LPS mm: compare regions rather than whole scans."""
    count: int = 5
    """Number of neighbours to list."""
    same_patient: bool = False
    """Also list the query's own patient."""
    json: bool = False
    """Print the neighbours as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Prints the neighbours, nearest first."""
    call = parse(Similar, "similar", words)
    from maesil import pipeline

    found = pipeline.similar(call.features, call.scan, at_mm=call.at, count=call.count, same_patient=call.same_patient)
    if call.json:
        print_json({"neighbours": [asdict(match) for match in found]})
        return 0
    print("similarity, scan, centre in LPS mm; nearest first:")  # noqa: T201 (the result)
    for match in found:
        place = ", ".join(f"{value:.1f}" for value in match.position_mm)
        print(f"{match.similarity:.3f}  {match.scan_id}  ({place}) mm")  # noqa: T201 (the result)
    return 0
