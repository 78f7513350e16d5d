"""`maesil doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maesil.commands.parsing import parse, print_json


@dataclass(frozen=True)
class Doctor:
    """Show what is installed: versions, devices, memory, optional packages, metric weights, the sample CT.

    Examples:
      maesil doctor
      maesil doctor --json
      maesil doctor --fetch-lpips alex
    """

    fetch_lpips: Literal["alex", "squeeze"] | None = None
    """First download the network that LPIPS uses, from torchvision's server: alex (233 MB), the protocol's, or squeeze
    (5 MB)."""
    json: bool = False
    """Print the findings as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Downloads what is requested and prints the findings; returns 0 whatever they are."""
    call = parse(Doctor, "doctor", words)
    from maesil import pipeline

    findings = pipeline.doctor(fetch_lpips=call.fetch_lpips)
    if call.json:
        print_json(findings)
        return 0
    width = max(map(len, findings))
    for name, value in findings.items():
        print(f"{name:<{width}}  {value}")  # noqa: T201 (the result, on standard output)
    return 0
