"""The command `reconstruct`: masks and reconstructs one scan on its own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from maesil.ct.doubts import doubts_about, warn_of
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.resample import resample_to
from maesil.ct.volume import Volume
from maesil.ct.write import MASK, nifti_ending, read_apart, sibling_path, write_nifti
from maesil.evaluation.rebuild import rebuild
from maesil.evaluation.whole_scan import rebuild_whole
from maesil.files import AnyPath
from maesil.progress import Progress
from maesil.runs.load import load_run
from maesil.runs.published import is_published, published
from maesil.sampling.ahead import box_reader
from maesil.store.conform import conform
from maesil.tiling import Tiling


def reconstruct(
    run: AnyPath,
    scan: AnyPath,
    out: AnyPath,
    *,
    predicted: bool = False,
    seed: int = 0,
    whole_scan: bool = True,
    series: str | None = None,
    checkpoint: Literal["last", "best"] = "last",
    replace: bool = False,
    options: ReadOptions = STRICT,
    progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Masks and reconstructs one scan; writes the reconstruction and the mask as NIfTI on the scan's own grid.

    Args:
        run: A run or checkpoint folder; or, as text, the name of published weights.
        scan: The scan: a file or DICOM folder.
        out: The reconstruction in HU, .nii or .nii.gz; the mask goes to NAME_maesil_mask next to it.
        predicted: Use the network's prediction for the visible voxels, too; otherwise they are copied from the scan.
        seed: Seed of the masks.
        whole_scan: Draw one mask for the scan, and blend superpatches that overlap by half; otherwise each superpatch
            has its own mask, as in training, and steps remain between them.
        series: The DICOM series to read, if the folder contains several.
        checkpoint: Which of the run's checkpoints to load.
        replace: Replace files that are there and that maesil did not write.
        options: What to do about scans that are refused otherwise.
        progress: Called before the first and after every batch of superpatches.

    Returns:
        Paths of the two files.

    Raises:
        ScanError: The scan cannot be read, or is invalid.
        ConfigError: `out` is not a NIfTI file name, cannot be written, is a file of the scan, or is there and was not
            written by maesil; the same holds for the file next to it.
    """
    run = published(run) if isinstance(run, str) and is_published(run) else Path(run)
    scan, out = Path(scan), Path(out)
    mask_out = sibling_path(out, f"{MASK}{nifti_ending(out)}")
    loaded = load_run(run, checkpoint=checkpoint)
    original = read_apart(scan, (out, mask_out), replace=replace, series=series, options=options)
    warn_of(doubts_about(original), scan)
    window = loaded.config.data.window
    volume = conform(original, loaded.record["prepare"], where=scan)
    if whole_scan:
        rebuilt = rebuild_whole(loaded.model, box_reader(volume), volume.shape, window, seed, progress=progress)
    else:
        tiling = Tiling(volume.shape, loaded.config.model.superpatch)
        rebuilt = rebuild(loaded.model, box_reader(volume), tiling, window, seed, progress=progress)
    hu = window.denormalize(rebuilt.reconstruction.clip(0.0, 1.0)).astype(np.float32)
    placed = resample_to(Volume(hu, volume.geometry), original.geometry, fill=window.low_hu)
    mask = resample_to(
        Volume(rebuilt.mask.astype(np.uint8), volume.geometry), original.geometry, fill=0, order="nearest"
    )
    array = placed.array if predicted else np.where(mask.array > 0, placed.array, original.array)
    write_nifti(out, Volume(array, original.geometry).astype(np.int16), made_by="reconstruct")
    write_nifti(mask_out, mask, made_by="reconstruct")
    return out, mask_out
