"""Measures inference: scans per minute of evaluate, reconstruct, embed and predict.

Each is measured with its default settings, and with one change: superpatches one at a time instead of in batches, the
other precision (the default is fp32 on a CPU, bf16 on a GPU), or no reading ahead. The networks are trained for a
single step, as speed does not depend on what they have learned. `predict`, whose decoder and overlap cost many times
as much as the others, segments three half-overlapping superpatches of each scan.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference

from benchmarks.harness import Contender, Report, Row, apart, parser, race, read_options
from maesil import pipeline
from maesil.config import RunConfig
from maesil.ct.readers import read
from maesil.ct.sample import sample_ct
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.encoder import features
from maesil.encoder import load as backbones
from maesil.encoder.card import Transfer
from maesil.evaluation import rebuild, runner
from maesil.evaluation.protocol import Protocol
from maesil.models.backbone import Backbone
from maesil.models.contract import Pretrainer
from maesil.presets import PRESETS
from maesil.runs.load import default_device, load_run
from maesil.sampling import ahead as reading
from maesil.sampling.ahead import box_reader
from maesil.sampling.config import HoldoutConfig
from maesil.sampling.regions import regions_of
from maesil.store.conform import conform
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation import score as segmenting
from maesil.tasks.segmentation.config import SegmentationConfig
from maesil.tasks.segmentation.network import Segmenter
from maesil.tiling import Tiling

CLASSES = 5
PREDICT = "predict, 3 windows of a scan"


@dataclass(frozen=True)
class Means:
    """Settings of inference.

    Attributes:
        one: Whether superpatches are processed one at a time.
        other_precision: Whether to use bf16 on a CPU, fp32 on a GPU.
        ahead: Whether the next batch is read while the current one is processed.
    """

    one: bool = False
    other_precision: bool = False
    ahead: bool = True


SHIPPED = "as shipped"
VARIANTS = {
    SHIPPED: Means(),
    "one superpatch at a time": Means(one=True),
    "other precision": Means(other_precision=True),
    "no reading ahead": Means(ahead=False),
}


@dataclass(frozen=True)
class Bench:
    """Networks and scans of the benchmark.

    Attributes:
        config: Configuration of the run.
        model: Trained model of the run.
        backbone: Encoder of the model.
        card: Card of the encoder.
        segmenter: Segmentation network on another copy of the encoder.
        store: Store of the prepared scans.
        scan: File of one of the scans.
        out: Folder for outputs.
    """

    config: RunConfig
    model: Pretrainer
    backbone: Backbone
    card: Transfer
    segmenter: Segmenter
    store: ScanStore
    scan: Path
    out: Path


def main(words: Sequence[str]) -> Report:
    made = parser("infer", __doc__)
    made.add_argument(
        "--scans", type=Path, nargs="*", default=None, help="NIfTI files (default: the sample CT, downloaded)"
    )
    made.add_argument("--spacing", type=float, default=3.0, help="spacing in mm (default: %(default)s)")
    made.add_argument("--preset", default="demo", help="preset of the network (default: %(default)s)")
    options = read_options(made, words)
    with tempfile.TemporaryDirectory(prefix="maesil-bench-") as folder:
        rows = apart(_rows, Path(folder), options).value
        bench_shapes = [list(entry.shape) for entry in ScanStore(Path(folder) / "store").entries]
    settings = {"preset": options.preset, "spacing_mm": options.spacing, "scans": bench_shapes}
    title = f"Inference with the network of '{options.preset}'"
    return Report(options.name, title, rows, [], {**settings, "rounds": options.rounds}, options)


def _rows(folder: Path, options: argparse.Namespace) -> list[Row]:
    bench = _made(folder, options)
    precision = "bf16" if default_device() == "cpu" else "fp32"
    rows = []
    for verb, (work, scans) in _verbs(bench).items():
        contenders = [
            Contender(name, partial(_with, means, work), float(scans))
            for name, means in VARIANTS.items()
            if not (verb == "reconstruct" and not means.ahead)  # it reads one scan before the network starts
        ]
        timings = race(contenders, options.rounds)
        for name, timing in timings.items():
            more = {"scans_per_min": timing.rate * 60}
            faster = timing.times_faster_than(timings[SHIPPED])
            label = precision if name == "other precision" else name
            rows.append(Row(verb, label, timing.median_s, timing.spread, faster, more=more, rounds=timing.seconds))
    return rows


def _made(folder: Path, options: argparse.Namespace) -> Bench:
    """Prepares the scans, and trains for one step."""
    sources = folder / "scans"
    sources.mkdir()
    for scan in options.scans or [sample_ct()]:
        shutil.copy(scan, sources / scan.name)
    prepare([sources], folder / "store", PrepareConfig(spacing_mm=options.spacing, dataset="bench", salt="bench"))
    config = PRESETS[options.preset]()
    config = replace(
        config,
        data=replace(config.data, store=folder / "store", holdout=HoldoutConfig(by="superpatch")),
        train=replace(config.train, steps=1, batch=1),
        monitor=replace(config.monitor, validate_every=0, image_every=0),
    )
    pipeline.pretrain(config, folder / "run")
    device = default_device()
    backbone, card = backbones.load_with_card(folder / "run")
    segmenter = Segmenter(backbones.load_with_card(folder / "run")[0], CLASSES, SegmentationConfig()).eval()
    out = folder / "out"
    out.mkdir()
    return Bench(
        config,
        load_run(folder / "run").model,
        backbone.to(device).eval(),
        card,
        segmenter.to(device),
        ScanStore(folder / "store"),
        next(iter(sorted(sources.iterdir()))),
        out,
    )


def _verbs(bench: Bench) -> dict[str, tuple[Callable[[Means], object], int]]:
    """Maps each command to its work, without loading the network, and its number of scans."""
    scans = len(bench.store.entries)
    return {
        "evaluate": (partial(_evaluate, bench), scans),
        "reconstruct": (partial(_reconstruct, bench), 1),
        "embed": (partial(_embed, bench), scans),
        PREDICT: (partial(_predict, bench), scans),
    }


def _evaluate(bench: Bench, means: Means) -> None:
    regions = regions_of(bench.store, bench.config.data, bench.config.model.superpatch, "test")
    batch = 1 if means.one else Protocol().batch
    protocol = Protocol(window=bench.config.data.window, lpips=None, mask_draws=1, batch=batch)
    runner.score_models({"model": bench.model}, bench.store, regions, protocol)


def _reconstruct(bench: Bench, means: Means) -> None:
    volume = conform(read(bench.scan), bench.store.manifest["settings"])
    tiling = Tiling(volume.shape, bench.config.model.superpatch)
    batch = 1 if means.one else Protocol().batch
    boxes = box_reader(volume)
    rebuilt = rebuild.rebuild(bench.model, boxes, tiling, bench.config.data.window, 0, batch=batch)
    hu = bench.config.data.window.denormalize(rebuilt.reconstruction.clip(0.0, 1.0))
    write_nifti(bench.out / "rebuilt.nii.gz", Volume(np.rint(hu).astype(np.int16), volume.geometry))


def _embed(bench: Bench, means: Means) -> None:
    features.embed(bench.backbone, bench.card, bench.store, batch=1 if means.one else 4)


def _predict(bench: Bench, means: Means) -> None:
    ids = [entry.scan_id for entry in bench.store.entries]
    reader = reading.ahead if means.ahead else _one_by_one
    for hu in reader(lambda scan_id: bench.store.volume(scan_id).array, ids, count=1):
        d, h, w = bench.config.model.superpatch
        segmenting.segment(bench.segmenter, hu[:d, :h, : 2 * w])


def _with(means: Means, work: Callable[[Means], object]) -> None:
    with ExitStack() as changed:
        if not means.ahead:
            changed.enter_context(patch.object(reading, "ahead", _one_by_one))
        for module in (rebuild, features, segmenting) if means.other_precision else ():
            changed.enter_context(patch.object(module, "inference_precision", _other_precision))
        if means.one:
            changed.enter_context(_windows_one_by_one())
        work(means)


def _one_by_one(read: Callable[[Any], Any], keys: Iterable[Any], count: int = 2) -> Iterator[Any]:
    return (read(key) for key in keys)


def _other_precision(device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cpu")


@contextmanager
def _windows_one_by_one() -> Iterator[None]:
    """Replaces the number of windows, which is the third argument of MONAI's sliding window, by one."""
    several = sliding_window_inference

    def one(volume: Any, shape: Any, windows: int, *rest: Any, **named: Any) -> Any:
        return several(volume, shape, 1, *rest, **named)

    with patch.object(segmenting, "sliding_window_inference", one):
        yield
