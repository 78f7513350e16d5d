"""`maesil doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table

from maesil.commands.parsing import console, parse, print_json


@dataclass(frozen=True)
class Doctor:
    """Say what is here: versions, devices, memory, optional packages, metric weights, the sample CT.

    Examples:
      maesil doctor
      maesil doctor --json
      maesil doctor --fetch-lpips alex
    """

    fetch_lpips: Literal["alex", "squeeze"] | None = None
    """First fetch the network that LPIPS looks through, from torchvision's address: alex (233 MB), which the protocol
    uses, or squeeze (5 MB)."""
    json: bool = False
    """Print the findings as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Fetches what is asked for, examines and prints; 0 whatever is found."""
    call = parse(Doctor, "doctor", words)
    from maesil import pipeline

    findings = pipeline.doctor(fetch_lpips=call.fetch_lpips)
    if call.json:
        print_json(findings)
        return 0
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in findings.items():
        table.add_row(f"[bold]{name}", str(value))
    console().print(table)
    return 0
