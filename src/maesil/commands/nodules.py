"""`maesil nodules`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from maesil.commands.parsing import console, parse, print_json
from maesil.counts import count_of
from maesil.screen import scan_bar


@dataclass(frozen=True)
class Nodules:
    """Write the nodules of LIDC-IDRI as label files, and a table with volume and malignancy.

    Reads the readers' XML. OUT gets SCAN.nii.gz for every scan, on the scan's own voxels, in which nodule k has the
    value k, and nodules.csv. Exit status 1: a scan has no readings, or they do not fit it.

    Examples:
      maesil nodules LIDC-IDRI --out nodules
      maesil nodules LIDC-IDRI --out nodules --agreement 0.75
    """

    roots: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of LIDC-IDRI."""
    out: Path
    """Folder for the label files and nodules.csv; a new one, or that of an earlier call."""
    agreement: float = 0.5
    """Share of a nodule's readers who must have a voxel inside."""
    salt: str | None = None
    """Salt of the hashed names, as of `maesil prepare`; by default your own."""
    json: bool = False
    """Print the nodules as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Writes the files and says where they are."""
    call = parse(Nodules, "nodules", words)
    from maesil import pipeline

    screen = console()
    with scan_bar(screen, "reading") as progress:
        written = pipeline.nodules(call.roots, call.out, agreement=call.agreement, salt=call.salt, progress=progress)
    for problem in written.problems:
        fix = f" ({problem.fix})" if problem.fix else ""
        screen.print(f"left out: {problem.path or problem.source}: {problem.reason}{fix}", markup=False)
    if call.json:
        print_json({"nodules": [asdict(row) for row in written.rows], "table": written.table})
    screen.print(
        f"{count_of(len(written.rows), 'nodule')} in {count_of(len(written.files), 'scan')}: {written.table}",
        markup=False,
    )
    return 1 if written.problems else 0
