"""`maesil doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from maesil.commands.parsing import console, parse, print_json
from maesil.counts import count_of
from maesil.screen import scan_bar

if TYPE_CHECKING:
    from maesil.store.privacy import PrivacyCheck


@dataclass(frozen=True)
class Doctor:
    """Show what is installed: versions, devices, memory, optional packages, metric weights, the sample CT.

    With --privacy, a store, a run or an export is searched for what its sources say about patients: values of DICOM
    headers, and names of files and folders. Exit status 1: something is repeated.

    Examples:
      maesil doctor
      maesil doctor --json
      maesil doctor --fetch-lpips alex
      maesil doctor --privacy STORE SCANS
    """

    fetch_lpips: Literal["alex", "squeeze"] | None = None
    """First download the network that LPIPS uses, from torchvision's server: alex (233 MB), the protocol's, or squeeze
    (5 MB)."""
    privacy: tuple[Path, Path] | None = None
    """Folder to search (a store, a run, an export), and the folder of the scans that it was made from."""
    json: bool = False
    """Print the findings as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Downloads what is requested and prints the findings; returns 1 if a search found what must not be told."""
    call = parse(Doctor, "doctor", words)
    from maesil import pipeline

    if call.privacy is not None:
        with scan_bar(console(), "searching") as progress:
            check = pipeline.check_privacy(*call.privacy, progress=progress)
        _print_check(check, as_json=call.json)
        return 1 if check.repeated else 0
    findings = pipeline.doctor(fetch_lpips=call.fetch_lpips)
    if call.json:
        print_json(findings)
        return 0
    width = max(map(len, findings))
    for name, value in findings.items():
        print(f"{name:<{width}}  {value}")  # noqa: T201 (the result, on standard output)
    return 0


def _print_check(check: PrivacyCheck, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(check))
        return
    for one in check.repeated:
        print(f"{one.place}: repeats {one.what}")  # noqa: T201 (the result, on standard output)
    if not check.values:
        print("nothing was compared: the headers of these sources have no values that tell who a patient is")  # noqa: T201
        return
    found = f"{count_of(len(check.repeated), 'value')} repeated" if check.repeated else "nothing is repeated"
    print(f"{found}; {check.values} values of the sources were searched for in {count_of(check.files, 'file')}")  # noqa: T201
