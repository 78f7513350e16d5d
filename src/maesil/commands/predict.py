"""`maesil predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from maesil.commands.parsing import console, parse
from maesil.ct.readers.options import ReadOptions
from maesil.screen import scan_bar


@dataclass(frozen=True)
class Predict:
    """Segment one scan: class numbers as NIfTI on the scan's own grid, their names as JSON next to it.

    Examples:
      maesil predict runs/organs scan.nii.gz --out organs.nii.gz      (and organs_classes.json)
      maesil predict runs/organs dicom-folder/ --out organs.nii.gz
    """

    run: tyro.conf.Positional[Path]
    """The segmentation run or checkpoint."""
    scan: tyro.conf.Positional[Path]
    """The scan: a file or DICOM folder."""
    out: Path
    """The segmentation file, .nii or .nii.gz."""
    series: str | None = None
    """The DICOM series to read, if the folder contains several."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of the run's checkpoints to load."""
    replace: bool = False
    """Replace files that are there and that maesil did not write."""
    reading: tyro.conf.OmitArgPrefixes[ReadOptions] = field(default_factory=ReadOptions)
    """Scans that are refused otherwise."""


def main(words: Sequence[str]) -> int:
    """Writes both files and prints their paths."""
    call = parse(Predict, "predict", words)
    from maesil import pipeline

    with scan_bar(console(), "segmenting") as progress:
        written = pipeline.predict(
            call.run,
            call.scan,
            call.out,
            series=call.series,
            checkpoint=call.checkpoint,
            replace=call.replace,
            options=call.reading,
            progress=progress,
        )
    print(*written, sep="\n")  # noqa: T201 (the result, on standard output)
    return 0
