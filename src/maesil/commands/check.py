"""`maesil check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from maesil.commands.parsing import parse, print_json


@dataclass(frozen=True)
class Check:
    """Say whether a scan looks like sound CT: size, spacing, orientation, range of values, and what seems wrong.

    Values that are not Hounsfield units (windowed to 0..1 or 0..255, stored with an offset) and axes that seem to be
    exchanged are named, with what to do. Exit code 0: nothing speaks against it; 1: something does.

    Examples:
      maesil check scan.nii.gz
      maesil check dicom-folder/ --series 1234
    """

    scan: tyro.conf.Positional[Path]
    """The scan: a file or DICOM folder."""
    series: str | None = None
    """The DICOM series to read, if the folder contains several."""
    json: bool = False
    """Print the facts as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Prints the facts; returns 1 if there are doubts."""
    call = parse(Check, "check", words)
    from maesil.ct.examine import examine_scan  # without pipeline: this needs no torch

    facts = examine_scan(call.scan, series=call.series)
    if call.json:
        print_json(asdict(facts))
    else:
        print(*facts.lines(), sep="\n")  # noqa: T201 (the result, on standard output)
    return 1 if facts.doubts else 0
