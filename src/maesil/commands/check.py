"""`maesil check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from maesil.commands.parsing import parse, print_json
from maesil.ct.readers.options import ReadOptions
from maesil.errors import ConfigError

if TYPE_CHECKING:
    from maesil.datasets.scan import FoundScans


@dataclass(frozen=True)
class Check:
    """Say whether scans look like sound CT: size, spacing, orientation, range of values, and what seems wrong.

    Values that are not Hounsfield units (windowed to 0..1 or 0..255, stored with an offset) and axes that seem to be
    exchanged are named, with what to do. One scan gets its facts; several, or a folder of them, get a line each; what
    is no CT, copies and labels are left out. Exit code 0: nothing speaks against the scans; 1: something does, what may
    be a scan cannot be read, or all that was found is no CT; 2: no scan was found, or the call is invalid.

    Examples:
      maesil check scan.nii.gz
      maesil check scans/
      maesil check dicom-folder/ --series 1234
    """

    scans: tyro.conf.Positional[tuple[Path, ...]]
    """The scans: files, DICOM folders, or folders of scans."""
    series: str | None = None
    """The DICOM series to read, if the folder contains several."""
    reading: tyro.conf.OmitArgPrefixes[ReadOptions] = field(default_factory=ReadOptions)
    """Scans that are refused otherwise."""
    json: bool = False
    """Print the facts as JSON on standard output; of several scans, as a list."""


def main(words: Sequence[str]) -> int:
    """Prints the facts; returns 1 if there are doubts, or something that may be a scan was not checked."""
    call = parse(Check, "check", words)
    if not call.scans:
        raise ConfigError("no scan is given", fix="maesil check SCAN, a file or a folder")
    one = len(call.scans) == 1
    if one and (call.series is not None or not call.scans[0].is_dir()):
        return _one(call.scans[0], call.series, call.reading, call.json)
    if call.series is not None:
        raise ConfigError("--series chooses from one DICOM folder, and several scans are given", fix="give the folder")
    from maesil.datasets.checking import unread
    from maesil.datasets.find import find_scans  # without pipeline: this needs no torch

    found = find_scans(call.scans)
    if one and not unread(found) and len(found.scans) == 1 and found.scans[0].path.samefile(call.scans[0]):
        return _one(call.scans[0], found.scans[0].series, call.reading, call.json)
    return _several(found, call.reading, call.json)


def _one(scan: Path, series: str | None, options: ReadOptions, as_json: bool) -> int:
    from maesil.ct.examine import examine_scan

    facts = examine_scan(scan, series=series, options=options)
    if as_json:
        print_json(asdict(facts))
    else:
        print(*facts.lines(), sep="\n")  # noqa: T201 (the result, on standard output)
    return 1 if facts.doubts else 0


def _several(found: FoundScans, options: ReadOptions, as_json: bool) -> int:
    from maesil.datasets.checking import check_scans, not_checked, tally

    checked = []
    for one in check_scans(found, options):
        checked.append(one)
        if not as_json:
            print(*one.lines(), sep="\n", flush=True)  # noqa: T201 (the result, on standard output)
    if as_json:
        print_json([{**asdict(one), "sound": one.is_sound} for one in checked])
    else:
        print(*not_checked(found), tally(checked), sep="\n")  # noqa: T201
    return 0 if checked and all(one.is_sound for one in checked) else 1
