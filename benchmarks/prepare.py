"""Compares `maesil prepare` with MONAI's LoadImage + Orientation + Spacing + SaveImage on the same scans.

Each contender prepares all scans in fresh processes that have finished their imports: `maesil` on 1 and 2 dask workers
of one thread, MONAI in one process with all threads, and in one process per core with one thread each. For larger
voxels, `maesil` blurs before resampling to avoid aliasing, and MONAI does not. The check for equal output therefore
uses smaller voxels (``--fine``), on MONAI's own grid.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Limit, Report, Row, Timing, apart, parser, read_options
from maesil.ct.geometry import Geometry
from maesil.ct.readers import read
from maesil.ct.resample import resample_to
from maesil.ct.sample import sample_ct
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.shapes import product
from maesil.store.prepare import PrepareConfig, prepare

CORES = 2
BODY_HU = -500


def main(words: Sequence[str]) -> Report:
    made = parser("prepare", __doc__)
    made.add_argument("--scan", type=Path, default=None, help="NIfTI file (default: the sample CT, downloaded)")
    made.add_argument("--scans", type=int, default=12, help="number of copies of the scan (default: %(default)s)")
    made.add_argument("--spacing", type=float, default=1.5, help="spacing in mm (default: %(default)s)")
    made.add_argument(
        "--fine", type=float, default=0.65, help="spacing in mm for the check of equal output (default: %(default)s)"
    )
    made.add_argument(
        "--workers", type=int, nargs="*", default=[1, 2], help="numbers of maesil's workers (default: %(default)s)"
    )
    made.add_argument(
        "--slices", type=int, default=1024, help="slices of the scan whose memory is measured; 0 skips this"
    )
    options = read_options(made, words)
    scan = options.scan or sample_ct()
    with tempfile.TemporaryDirectory(prefix="maesil-bench-") as folder:
        work = Path(folder)
        rows = _speed(work, scan, options)
        rows.append(_equality(work, scan, options.fine))
        if options.slices:
            rows.append(_memory(work, scan, options.slices))
    settings = {"scans": options.scans, "spacing_mm": options.spacing, "fine_mm": options.fine, "cores": CORES}
    limits: list[Limit] = []
    return Report(options.name, "prepare against MONAI's transforms", rows, limits, settings, options)


def _speed(work: Path, scan: Path, options: Any) -> list[Row]:
    sources = _copies(work / "scans", scan, options.scans)
    runs: dict[str, tuple[Any, ...]] = {
        "MONAI, one process, all threads": (_monai, sources, work / "monai", options.spacing, 1),
        "MONAI, a process per core": (_monai, sources, work / "monai", options.spacing, CORES),
    }
    ours = {f"maesil, {count} worker" + ("s" if count > 1 else ""): count for count in options.workers}
    runs |= {name: (_ours, sources, work / "store", options.spacing, count) for name, count in ours.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, (function, *arguments) in runs.items():
            shutil.rmtree(arguments[1], ignore_errors=True)
            seconds[name].append(apart(function, *arguments).value)
    timings = {name: Timing(tuple(found), float(len(sources))) for name, found in seconds.items()}
    best = min(list(timings)[:2], key=lambda name: timings[name].median_s)
    rows = []
    for name, timing in timings.items():
        more = {"scans_per_min": timing.rate * 60}
        if name in ours:
            more["times_first"] = timing.times_faster_than(timings[next(iter(ours))])
        faster = timing.times_faster_than(timings[best])
        rows.append(
            Row(
                f"{len(sources)} scans to {options.spacing} mm",
                name,
                timing.median_s,
                timing.spread,
                faster,
                more=more,
                rounds=timing.seconds,
            )
        )
    return rows


def _copies(folder: Path, scan: Path, count: int) -> list[Path]:
    folder.mkdir()
    names = [folder / f"scan{number}.nii.gz" for number in range(count)]
    for name in names:
        shutil.copy(scan, name)
    return names


def _ours(sources: list[Path], out: Path, spacing: float, workers: int) -> float:
    """Seconds on running workers that have finished their imports; 0 workers use this process."""
    from distributed import Client

    from maesil.store.parallel import local_cluster

    def work(scheduler: str | None) -> float:
        config = PrepareConfig(spacing_mm=spacing, dataset="bench", salt="bench")
        begin = time.perf_counter()
        report = prepare([sources[0].parent], out, config, scheduler=scheduler, workers=workers)
        assert len(report.prepared) == len(sources), report.quarantined
        return time.perf_counter() - begin

    if not workers:
        return work(None)
    with local_cluster(workers) as cluster, Client(cluster) as client:
        client.run(import_module, "maesil.store.writing")
        return work(cluster.scheduler_address)


def _monai(sources: list[Path], out: Path, spacing: float, processes: int) -> float:
    """Seconds on processes that have finished their imports."""
    out.mkdir(parents=True)
    work = [(str(source), out, spacing) for source in sources]
    if processes == 1:
        monai_transforms(out, spacing)
        begin = time.perf_counter()
        for words in work:
            _monai_scan(*words)
        return time.perf_counter() - begin
    with multiprocessing.get_context("spawn").Pool(processes, _one_thread) as pool:
        pool.map(time.sleep, [0.5] * processes, chunksize=1)  # every process sleeps once after its imports
        begin = time.perf_counter()
        pool.starmap(_monai_scan, work, chunksize=1)
        return time.perf_counter() - begin


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    monai_transforms(Path(), 1.0)


def _monai_scan(source: str, out: Path, spacing: float) -> None:
    monai_transforms(out, spacing)(source)


def monai_transforms(out: Path, spacing: float) -> Any:
    """Resamples to isotropic voxels in int16 HU, and writes a NIfTI.gz."""
    from monai.transforms.compose import Compose
    from monai.transforms.io.array import LoadImage, SaveImage
    from monai.transforms.spatial.array import Orientation, Spacing
    from monai.transforms.utility.array import EnsureChannelFirst

    return Compose(
        [
            LoadImage(image_only=True, reader="NibabelReader"),
            EnsureChannelFirst(),
            Orientation("LPS", labels=(("R", "L"), ("A", "P"), ("I", "S"))),
            Spacing((spacing,) * 3, mode="bilinear"),
            SaveImage(
                output_dir=out, output_postfix="monai", output_dtype=np.int16, resample=False, separate_folder=False,
                print_log=False,
            ),
        ]
    )  # fmt: skip


def _equality(work: Path, scan: Path, spacing: float) -> Row:
    """Compares our voxels with MONAI's on its grid, without blur: they should agree within 1 HU inside the body."""
    volume = read(scan).reorient("SPL")
    part = volume.crop((0, 0, 0), (min(40, volume.shape[0]), *volume.shape[1:]))
    source = work / "part.nii.gz"
    write_nifti(source, Volume(np.clip(part.array, -1024, 3071), part.geometry))
    _monai_scan(str(source), work / "fine", spacing)
    theirs = read(next((work / "fine").glob("*.nii.gz"))).reorient("SPL")
    ours = resample_to(read(source).reorient("SPL"), _inner(theirs.geometry))
    inner = theirs.crop((1, 1, 1), ours.shape)
    body = inner.array > BODY_HU
    off = np.abs(ours.array.astype(np.int32) - inner.array)[body]
    more = {
        "largest_difference_hu": float(off.max()),
        "share_beyond_1_hu": float((off > 1).mean()),
        "mean_difference_hu": float(off.mean()),
    }
    return Row(f"equal output at {spacing} mm", "maesil on MONAI's grid", more=more)


def _inner(geometry: Geometry) -> Geometry:
    """Removes the outermost voxels, where the two assume different values outside the scan."""
    d, h, w = geometry.shape
    return geometry.crop((1, 1, 1), (d - 2, h - 2, w - 2))


def _memory(work: Path, scan: Path, slices: int) -> Row:
    """Measures the peak memory of a process that prepares a scan of many slices."""
    volume = read(scan).reorient("SPL")
    repeats = -(-slices // volume.shape[0])
    array = np.concatenate([volume.array] * repeats)[:slices]
    spacing = (1.0, volume.spacing_mm[1], volume.spacing_mm[2])
    source = work / "tall" / "tall.nii.gz"
    source.parent.mkdir()
    write_nifti(source, Volume(array, Geometry.from_parts(array.shape, spacing)))
    size_gib = product(array.shape) * 2 / 2**30
    del array, volume
    found = apart(_ours, [source], work / "tall-store", 1.5, 0)
    more = {"int16_gib": size_gib, "times_int16": (found.peak_gib - found.start_gib) / size_gib}
    return Row("memory, one scan", f"maesil, {slices} slices", found.seconds, peak_gib=found.peak_gib, more=more)
