"""`maesil check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from maesil.commands.parsing import parse, print_json
from maesil.errors import ConfigError


@dataclass(frozen=True)
class Check:
    """Say whether scans look like sound CT: size, spacing, orientation, range of values, and what seems wrong.

    Values that are not Hounsfield units (windowed to 0..1 or 0..255, stored with an offset) and axes that seem to be
    exchanged are named, with what to do. One scan gets its facts; several, or a folder of them, get a line each. Exit
    code 0: nothing speaks against them; 1: something does.

    Examples:
      maesil check scan.nii.gz
      maesil check scans/
      maesil check dicom-folder/ --series 1234
    """

    scans: tyro.conf.Positional[tuple[Path, ...]]
    """The scans: files, DICOM folders, or folders of scans."""
    series: str | None = None
    """The DICOM series to read, if the folder contains several."""
    json: bool = False
    """Print the facts as JSON on standard output; of several scans, as a list."""


def main(words: Sequence[str]) -> int:
    """Prints the facts; returns 1 if there are doubts."""
    call = parse(Check, "check", words)
    if not call.scans:
        raise ConfigError("no scan is given", fix="maesil check SCAN, a file or a folder")
    if len(call.scans) == 1 and (call.series is not None or not _has_several(call.scans[0])):
        return _one(call.scans[0], call)
    if call.series is not None:
        raise ConfigError("--series chooses from one DICOM folder, and several scans are given", fix="give the folder")
    return _several(call)


def _has_several(source: Path) -> bool:
    """Whether a source is a folder that must be searched for scans: with more than one, or with none."""
    if not source.is_dir():
        return False
    from maesil.datasets.find import find_scans

    found = find_scans([source])
    return len(found.scans) + len(found.problems) > 1 or not found.scans or found.scans[0].path != source


def _one(scan: Path, call: Check) -> int:
    from maesil.ct.examine import examine_scan  # without pipeline: this needs no torch

    facts = examine_scan(scan, series=call.series)
    if call.json:
        print_json(asdict(facts))
    else:
        print(*facts.lines(), sep="\n")  # noqa: T201 (the result, on standard output)
    return 1 if facts.doubts else 0


def _several(call: Check) -> int:
    from maesil.datasets.checking import check_scans, tally

    checked = []
    for one in check_scans(call.scans):
        checked.append(one)
        if not call.json:
            print(*one.lines(), sep="\n", flush=True)  # noqa: T201 (the result, on standard output)
    if call.json:
        print_json([{**asdict(one), "sound": one.is_sound} for one in checked])
    else:
        print(tally(checked))  # noqa: T201
    return 0 if all(one.is_sound for one in checked) else 1
