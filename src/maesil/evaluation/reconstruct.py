"""The verb `reconstruct`: one scan, masked and rebuilt on its own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from maesil.ct.readers import read
from maesil.ct.resample import resample_to
from maesil.ct.volume import Volume
from maesil.ct.write import beside, nifti_ending, write_nifti
from maesil.evaluation.rebuild import rebuild
from maesil.runs.load import load
from maesil.sampling.volumes import box_reader
from maesil.store.conform import conform
from maesil.tiling import Tiling


def reconstruct(
    run: Path,
    scan: Path,
    out: Path,
    *,
    predicted: bool = False,
    seed: int = 0,
    series: str | None = None,
    checkpoint: Literal["last", "best"] = "last",
) -> tuple[Path, Path]:
    """Masks and rebuilds one scan; writes the reconstruction and the mask as NIfTI on the scan's own grid.

    Args:
        run: A run or checkpoint folder.
        scan: A file or DICOM folder.
        out: The reconstruction in HU, .nii or .nii.gz; the mask goes to NAME_mask beside it.
        predicted: Write the network's own rebuilding of the visible voxels, too; else they pass through.
        seed: Seed of the masks.
        series: Which DICOM series, where a folder holds several.
        checkpoint: Which of the run's checkpoints.

    Returns:
        The two files.

    Raises:
        ScanError: The scan cannot be read, or is not sound.
        ConfigError: `out` is no NIfTI name.
    """
    mask_out = beside(out, f"_mask{nifti_ending(out)}")
    loaded = load(run, checkpoint=checkpoint)
    original = read(scan, series=series)
    window = loaded.config.data.window
    volume = conform(original, loaded.record["prepare"])
    tiling = Tiling(volume.shape, loaded.config.model.superpatch)
    rebuilt = rebuild(loaded.model, box_reader(volume), tiling, window, seed)
    hu = window.denormalize(rebuilt.reconstruction.clip(0.0, 1.0)).astype(np.float32)
    placed = resample_to(Volume(hu, volume.geometry), original.geometry, fill=window.low_hu)
    mask = resample_to(
        Volume(rebuilt.mask.astype(np.uint8), volume.geometry), original.geometry, fill=0, order="nearest"
    )
    array = placed.array if predicted else np.where(mask.array > 0, placed.array, original.array)
    write_nifti(out, Volume(np.rint(array).astype(np.int16), original.geometry))
    write_nifti(mask_out, mask)
    return out, mask_out
