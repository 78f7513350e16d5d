"""Using a trained segmentation network: segmenting whole scans, scoring test scans, writing predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import torch
import yaml
from monai.inferers.utils import sliding_window_inference

from maesil.counts import count_of
from maesil.ct.doubts import doubts_about, warn_of
from maesil.ct.geometry import Geometry
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.resample import resample_to
from maesil.ct.volume import Volume
from maesil.ct.write import read_apart, sibling_path, write_nifti
from maesil.encoder.card import Transfer
from maesil.encoder.start import seen_notes
from maesil.errors import CheckpointError, StoreError
from maesil.evaluation.rebuild import inference_precision
from maesil.evaluation.runner import held_out
from maesil.evaluation.sheet import sheet_to_latex, sheet_to_markdown
from maesil.files import AnyPath, write_json, write_json_lines, write_text
from maesil.metrics.segmentation import segmentation_scores
from maesil.progress import Progress
from maesil.runs.checkpoints import checkpoint_of
from maesil.runs.kinds import SCORES, SEGMENTATION
from maesil.runs.load import default_device
from maesil.sampling.ahead import ahead
from maesil.sampling.labelled import Classes
from maesil.sampling.regions import Region
from maesil.seen import seen_patients
from maesil.shapes import Shape3
from maesil.store.conform import conform
from maesil.store.location import is_there
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation.config import FinetuneConfig, completed, from_dict
from maesil.tasks.segmentation.division import regions_to_test
from maesil.tasks.segmentation.network import Segmenter
from maesil.tasks.segmentation.tables import segmentation_sheet
from maesil.training.checkpoint import load_weights

WINDOWS = 2
"""Superpatches per batch on a GPU."""
OVERLAP = 0.5
"""Overlap of neighbouring windows; Gaussian weights hide the seams."""


@dataclass(frozen=True)
class LoadedSegmenter:
    """A segmentation network from a run, in evaluation mode.

    Attributes:
        model: The network, on its device.
        classes: The structures it segments, numbered from 1.
        config: The run's settings, without the store's path.
        record: Contents of the checkpoint's config.json.
    """

    model: Segmenter
    classes: Classes
    config: FinetuneConfig
    record: Mapping[str, Any]


def load_segmenter(run: Path, *, checkpoint: Literal["last", "best"] = "last") -> LoadedSegmenter:
    """Loads a segmentation run or checkpoint, without pickle.

    Raises:
        CheckpointError: The checkpoint does not exist, is damaged, or is not a segmentation checkpoint.
    """
    folder, record = checkpoint_of(run, checkpoint, SEGMENTATION)
    config = from_dict(completed(record["config"]), where=folder)
    card = Transfer(**record["encoder"])
    classes = Classes(tuple(record["classes"]))
    model = Segmenter(card.backbone(), len(classes), config.model)
    load_weights(model, folder)
    return LoadedSegmenter(model.eval().to(default_device()), classes, config, record)


def windows_of(shape: Shape3, superpatch: Shape3) -> int:
    """Number of superpatches that `segment` needs for a volume."""
    count = 1
    for size, edge in zip(shape, superpatch, strict=True):
        step = max(1, int(edge * (1 - OVERLAP)))
        count *= 1 + max(0, math.ceil((size - edge) / step))
    return count


@torch.inference_mode()
def segment(
    model: Segmenter, hu: npt.NDArray[Any], after: Callable[[int], None] = lambda count: None
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Class per voxel of a whole volume in orientation SPL, from half-overlapping superpatches with Gaussian weights.

    Args:
        model: The network, on its device.
        hu: Volume in HU, (d, h, w).
        after: Called after every batch with its number of superpatches; `windows_of` is their sum.
    """
    device = next(model.parameters()).device
    volume = model.backbone.from_hu(torch.from_numpy(np.ascontiguousarray(hu))[None, None])
    shape = model.backbone.config.superpatch
    # On a CPU, one at a time was 1.3 times as fast as two (docs/performance.md).
    windows = 1 if device.type == "cpu" else WINDOWS

    def predict_batch(batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(batch)
        after(len(batch))
        return logits

    with inference_precision(device):
        logits = sliding_window_inference(
            volume,
            shape,
            windows,
            predict_batch,
            overlap=OVERLAP,
            mode="gaussian",
            sw_device=device,
            device="cpu",
            cval=0.0,
        )
    assert isinstance(logits, torch.Tensor)
    found: npt.NDArray[np.unsignedinteger[Any]] = (
        logits[0].argmax(dim=0).numpy().astype(np.min_scalar_type(logits.shape[1] - 1))
    )
    return found


@dataclass(frozen=True)
class Scored:
    """Scores of a segmentation run.

    Attributes:
        rows: One row per scan and class: scan, dataset, patient, superpatches (how many held-out ones were scored;
            None: the whole scan), trained (whether the network was trained on other scans or superpatches of the
            patient), class, dice, hd95_mm, nsd; these are NaN for a class that was not marked in the scan.
        table: The table in Markdown.
    """

    rows: tuple[dict[str, Any], ...]
    table: str


def score_segmentation(
    run: AnyPath,
    *,
    store: AnyPath | None = None,
    checkpoint: Literal["last", "best"] = "last",
    progress: Progress | None = None,
) -> Scored:
    """Scores every class on the run's test scans (Dice, HD95, NSD); writes scores.jsonl, table.md and table.tex.

    Scans of held-out patients are scored whole, others only on their held-out superpatches.

    Args:
        run: The run folder.
        store: The store; None: the run's own.
        checkpoint: Which of the run's checkpoints to load.
        progress: Called before the first and after every superpatch of a scan.

    Raises:
        CheckpointError: The run has no checkpoint, or is not a segmentation run.
        StoreError: The store has no labels, no labelled scan to test, or none that is annotated for the run's classes:
            for all of them or, after a training with `labels.partial`, for at least one.
    """
    run = Path(run)
    store = None if store is None else Path(store)
    loaded = load_segmenter(run, checkpoint=checkpoint)
    scans = ScanStore(store or _store_of(run))
    config = replace(loaded.config, data=replace(loaded.config.data, store=scans.path))
    regions = regions_to_test(scans, loaded.classes, config, loaded.model.backbone.config.superpatch)
    taught = _taught(loaded.record, scans)
    rows: list[dict[str, Any]] = []
    volumes = ahead(lambda region: scans.volume(region.entry.scan_id).array, regions, count=1)
    counted = Windows(loaded.model, [region.entry.shape for region in regions], progress)
    for region, hu in zip(regions, volumes, strict=True):
        after = counted.of(region.entry.scan_id)
        rows += _scan_rows(loaded, scans, region, hu, after, trained=region.entry.patient in taught)
    sheet = segmentation_sheet(rows, f"Segmentation, {loaded.config.model.mode}, step {loaded.record['step']}")
    sheet = replace(sheet, notes=(*sheet.notes, *seen_notes(loaded.record, [region.entry for region in regions])))
    write_json_lines(run / SCORES, rows)
    write_text(run / "table.md", sheet_to_markdown(sheet))
    write_text(run / "table.tex", sheet_to_latex(sheet))
    return Scored(tuple(rows), sheet_to_markdown(sheet))


@final
class Windows:
    """Reports how many superpatches of several scans are segmented.

    Args:
        model: The network.
        shapes: Shapes of the scans in voxels.
        progress: The function that is called; None: nothing is reported.
    """

    def __init__(self, model: Segmenter, shapes: Sequence[Shape3], progress: Progress | None) -> None:
        superpatch = model.backbone.config.superpatch
        self._done, self._progress = 0, progress
        self._total = sum(windows_of(shape, superpatch) for shape in shapes)
        if progress is not None:
            edges = " x ".join(map(str, superpatch))
            windows = count_of(self._total, f"window of {edges} voxels", f"windows of {edges} voxels")
            progress(0, self._total, f"{count_of(len(shapes), 'scan')} in {windows}")

    def of(self, name: str) -> Callable[[int], None]:
        """The function to call after every batch of a scan."""

        def after(count: int) -> None:
            self._done += count
            if self._progress is not None:
                self._progress(self._done, self._total, name)

        return after


def _taught(record: Mapping[str, Any], store: ScanStore) -> frozenset[str]:
    """The store's patients that fine-tuning was trained on."""
    seen = seen_patients(record.get("seen"), store.entries)
    if seen is not None:
        return seen
    named = record["scans"]["train"]  # version 0.1 stored names of scans
    return frozenset(entry.patient for entry in store.entries if entry.scan_id in named)


def _scan_rows(
    loaded: LoadedSegmenter,
    store: ScanStore,
    region: Region,
    hu: npt.NDArray[Any],
    after: Callable[[int], None],
    *,
    trained: bool,
) -> list[dict[str, Any]]:
    entry = region.entry
    predicted = segment(loaded.model, hu, after)
    truth = loaded.classes.read(store, entry.scan_id, (0, 0, 0), entry.shape)
    if region.partial:  # the rest of the scan was trained on
        held = held_out(region)
        predicted, truth = np.where(held, predicted, 0), np.where(held, truth, 0)
    scores = segmentation_scores(
        torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(truth), len(loaded.classes), entry.spacing_mm
    )
    marked = loaded.classes.marked(entry)
    scores = [row if told else dict.fromkeys(row, math.nan) for row, told in zip(scores, marked, strict=True)]
    named = {"scan": entry.scan_id, "dataset": entry.dataset, "patient": entry.patient}
    split = {"superpatches": len(region.tiles) if region.partial else None, "trained": trained}
    return [{**named, **split, "class": name, **row} for name, row in zip(loaded.classes.names, scores, strict=True)]


def _store_of(run: Path) -> Path:
    path = run / "config.yaml"
    if not path.is_file():
        raise CheckpointError("not a run folder: it has no config.yaml", where=run, fix="give --data.store STORE")
    store = Path(yaml.safe_load(path.read_text())["data"]["store"])
    if not is_there(store):
        raise StoreError("the run's store no longer exists", where=store, fix="give another: --data.store STORE")
    return store


def predict(
    run: AnyPath,
    scan: AnyPath,
    out: AnyPath,
    *,
    series: str | None = None,
    checkpoint: Literal["last", "best"] = "last",
    replace: bool = False,
    options: ReadOptions = STRICT,
    progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Segments one scan; writes class numbers as NIfTI on the scan's own grid, and their names as JSON next to it.

    Args:
        run: A segmentation run or checkpoint.
        scan: The scan: a file or DICOM folder.
        out: The segmentation file, .nii or .nii.gz; names go to NAME_classes.json.
        series: The DICOM series to read, if the folder contains several.
        checkpoint: Which of the run's checkpoints to load.
        replace: Replace files that are there and that maesil did not write.
        options: What to do about scans that are refused otherwise.
        progress: Called before the first and after every superpatch of the scan.

    Returns:
        Paths of the two files.

    Raises:
        CheckpointError: The run is not a segmentation run.
        ScanError: The scan cannot be read, or is invalid.
        ConfigError: `out` is not a NIfTI file name, cannot be written, is a file of the scan, or is there and was not
            written by maesil; the same holds for the file next to it.
    """
    run, scan, out = Path(run), Path(scan), Path(out)
    names = sibling_path(out, "_classes.json")
    loaded = load_segmenter(run, checkpoint=checkpoint)
    numbered = {str(number): name for number, name in enumerate(loaded.classes.names, start=1)}
    outputs = (out,) if _says(names, numbered) else (out, names)
    original = read_apart(scan, outputs, replace=replace, series=series, options=options)
    warn_of(doubts_about(original), scan)
    volume = conform(original, loaded.record["prepare"], where=scan)
    after = Windows(loaded.model, [volume.shape], progress).of(scan.name)
    found = segment(loaded.model, volume.array, after)
    write_nifti(out, _placed(found, volume.geometry, original.geometry), made_by="predict")
    write_json(names, numbered)
    return out, names


def _says(path: Path, wanted: object) -> bool:
    """Whether a JSON file holds a value already, so that writing it changes nothing."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == wanted)
    except (OSError, ValueError):
        return False


def _placed(found: npt.NDArray[np.unsignedinteger[Any]], here: Geometry, there: Geometry) -> Volume:
    return resample_to(Volume(found, here), there, fill=0, order="nearest")
