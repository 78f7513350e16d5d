"""`maesil store`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from maesil.commands.parsing import console, parse, print_json
from maesil.screen import scan_bar
from maesil.store.check import Action


@dataclass(frozen=True)
class Store:
    """Check the files of a store, or take scans out of it.

    check: read all files, and compare them with what was written. Exit status 1: a scan is damaged.
    repair: check, and remove the damaged scans; the same `maesil prepare` as before then writes them again.
    remove: remove the scans that are named.

    Examples:
      maesil store check STORE
      maesil store repair STORE
      maesil store remove STORE --scans chest-0001 chest-0002
    """

    action: tyro.conf.Positional[Action]
    """What to do."""
    store: tyro.conf.Positional[Path]
    """Folder of the store."""
    scans: tuple[str, ...] = ()
    """Names of scans to remove, as in the store's manifest.json."""
    json: bool = False
    """Print the damaged or removed scans as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Does it, and says what was found."""
    call = parse(Store, "store", words)
    from maesil import pipeline

    screen = console()
    with scan_bar(screen, "checking") as progress:
        faults = pipeline.store(call.action, call.store, call.scans, progress=progress)
    for scan_id, fault in faults.items():
        screen.print(f"{scan_id}: {fault}", markup=False)
    if call.json:
        print_json({"scans": faults})
    if call.action == "repair" and faults:
        screen.print("removed; run the same `maesil prepare` again, which writes them anew", markup=False)
    if not faults:
        screen.print("all files are as they were written", markup=False)
    return 1 if faults and call.action == "check" else 0
