"""`maesil view`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from maesil.commands.parsing import console, parse


@dataclass(frozen=True)
class View:
    """Look at scans, stores and reconstructions in the browser: three linked planes or 3D, HU windows, labels.

    A server of this command serves the page to this machine alone, until Ctrl-C. A run shows original, masked input,
    reconstruction and error of its held-out scans, or of the scans that are given after it.

    Examples:
      maesil view store
      maesil view runs/base
      maesil view runs/base scan.nii.gz
      maesil view scan.nii.gz --labels organs.nii.gz
      maesil view store --no-browser                    (prints the address; with ssh -L PORT:127.0.0.1:PORT elsewhere)
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Stores, runs and scans (files or DICOM folders)."""
    split: Literal["train", "val", "test"] | None = None
    """Split of a run's scans; by default the one that evaluate scores."""
    store: Annotated[Path | None, tyro.conf.arg(name="data.store")] = None
    """Store of a run's scans, if it is not the run's own."""
    labels: Path | None = None
    """Labels of the scan, such as a file that maesil predict wrote."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of a run's checkpoints to load."""
    browser: bool = True
    """Open the page in the browser; the address is printed in any case."""


def main(words: Sequence[str]) -> int:
    """Prints the page's address and serves it until Ctrl-C."""
    call = parse(View, "view", words)
    from maesil import pipeline

    screen = console()

    def opened(address: str) -> None:
        print(address, flush=True)  # noqa: T201 (the result, on standard output)
        screen.print("Ctrl-C stops it")

    pipeline.view(
        call.sources,
        split=call.split,
        store=call.store,
        labels=call.labels,
        checkpoint=call.checkpoint,
        browser=call.browser,
        opened=opened,
    )
    return 0
