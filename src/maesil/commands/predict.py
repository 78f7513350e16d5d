"""`maesil predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from maesil.commands.parsing import parse


@dataclass(frozen=True)
class Predict:
    """Segment one scan: class numbers as NIfTI on the scan's own grid, their names as JSON beside it.

    Examples:
      maesil predict runs/organs scan.nii.gz --out organs.nii.gz      (and organs_classes.json)
      maesil predict runs/organs dicom-folder/ --out organs.nii.gz
    """

    run: tyro.conf.Positional[Path]
    """The segmentation run or checkpoint."""
    scan: tyro.conf.Positional[Path]
    """A file or DICOM folder."""
    out: Path
    """The segmentation, .nii or .nii.gz."""
    series: str | None = None
    """Which DICOM series, where a folder holds several."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of the run's checkpoints."""


def main(words: Sequence[str]) -> int:
    """Writes both files and prints their paths."""
    call = parse(Predict, "predict", words)
    from maesil import pipeline

    written = pipeline.predict(call.run, call.scan, call.out, series=call.series, checkpoint=call.checkpoint)
    print(*written, sep="\n")  # noqa: T201 (the result, on standard output)
    return 0
