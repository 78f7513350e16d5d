"""`maesil reconstruct`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from maesil.commands.parsing import console, parse, print_json
from maesil.ct.readers.options import ReadOptions
from maesil.screen import scan_bar


@dataclass(frozen=True)
class Reconstruct:
    """Mask and reconstruct one scan; write the reconstruction in HU and the mask as NIfTI on the scan's own grid.

    Visible voxels are copied from the scan: only masked ones are reconstructed.

    Examples:
      maesil reconstruct runs/base scan.nii.gz --out rebuilt.nii.gz      (and rebuilt_maesil_mask.nii.gz)
      maesil reconstruct runs/base dicom-folder/ --out rebuilt.nii.gz --predicted
      maesil reconstruct runs/base scan.nii.gz --out rebuilt.nii.gz --no-whole-scan
    """

    run: tyro.conf.Positional[str]
    """The run or checkpoint folder, or the name of published weights."""
    scan: tyro.conf.Positional[Path]
    """The scan: a file or DICOM folder."""
    out: Path
    """The reconstruction, .nii or .nii.gz; the mask is written next to it."""
    predicted: bool = False
    """Use the network's prediction for the visible voxels, too."""
    seed: int = 0
    """Seed of the masks."""
    whole_scan: bool = True
    """Draw one mask for the whole scan and blend overlapping superpatches; otherwise a mask for each superpatch."""
    series: str | None = None
    """The DICOM series to read, if the folder contains several."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of the run's checkpoints to load."""
    replace: bool = False
    """Replace files that are there and that maesil did not write."""
    reading: tyro.conf.OmitArgPrefixes[ReadOptions] = field(default_factory=ReadOptions)
    """Scans that are refused otherwise."""
    json: bool = False
    """Print the files' paths as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Writes both files and prints their paths."""
    call = parse(Reconstruct, "reconstruct", words)
    from maesil import pipeline

    with scan_bar(console(), "rebuilding") as progress:
        reconstruction, mask = pipeline.reconstruct(
            call.run,
            call.scan,
            call.out,
            predicted=call.predicted,
            seed=call.seed,
            whole_scan=call.whole_scan,
            series=call.series,
            checkpoint=call.checkpoint,
            replace=call.replace,
            options=call.reading,
            progress=progress,
        )
    if call.json:
        print_json({"reconstruction": reconstruction, "mask": mask})
    else:
        print(reconstruction, mask, sep="\n")  # noqa: T201 (the result, on standard output)
    return 0
