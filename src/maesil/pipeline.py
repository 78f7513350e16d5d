"""The public commands as Python functions; `maesil COMMAND` has the same names and options.

Example:
    >>> from pathlib import Path
    >>> from dataclasses import replace
    >>> from maesil import pipeline, presets
    >>> pipeline.prepare([Path("scans")], Path("store"))  # doctest: +SKIP
    >>> config = presets.base()  # doctest: +SKIP
    >>> config = replace(config, data=replace(config.data, store=Path("store")))  # doctest: +SKIP
    >>> pipeline.pretrain(config, Path("run"))  # doctest: +SKIP
    >>> pipeline.evaluate(Path("run"))  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from maesil.comparison.compare import compare
from maesil.ct.examine import ScanFacts
from maesil.ct.examine import examine_scan as check
from maesil.datasets.nodule_files import write_nodules as nodules
from maesil.datasets.overview import HEADER, rows_of
from maesil.datasets.unify import Unified
from maesil.datasets.unify import unify as datasets
from maesil.demo import run_demo as demo
from maesil.doctor import examine as doctor
from maesil.encoder.features import Match, read_features, require_table, write_features
from maesil.encoder.features import embed as embed_store
from maesil.encoder.features import similar as similar_rows
from maesil.encoder.load import load_with_card
from maesil.errors import ConfigError
from maesil.evaluation.evaluate import Evaluation, evaluate
from maesil.evaluation.reconstruct import reconstruct
from maesil.evaluation.sheet import Sheet, sheet_to_csv, sheet_to_latex, sheet_to_markdown
from maesil.export.targets import export as export_backbone
from maesil.files import AnyPath, write_text
from maesil.grid import PatchGrid
from maesil.masking import MASKINGS
from maesil.progress import Progress
from maesil.report.figures import save_figure
from maesil.report.gallery import mask_gallery
from maesil.report.run import report
from maesil.runs.load import default_device
from maesil.runs.pretrain import Outcome, pretrain
from maesil.seen import seen_note
from maesil.shapes import Shape3
from maesil.store.check import store
from maesil.store.prepare import prepare
from maesil.store.scanstore import ScanStore
from maesil.tasks.classification.cases import read_cases
from maesil.tasks.classification.config import ClassificationConfig
from maesil.tasks.classification.train import Classified, classify
from maesil.tasks.segmentation.label_efficiency import compare_transfer
from maesil.tasks.segmentation.score import predict, score_segmentation
from maesil.tasks.segmentation.train import finetune_segmentation

__all__ = [
    "Evaluation",
    "Outcome",
    "ScanFacts",
    "check",
    "compare",
    "compare_transfer",
    "datasets",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "finetune_classification",
    "finetune_segmentation",
    "masks",
    "nodules",
    "predict",
    "prepare",
    "pretrain",
    "reconstruct",
    "report",
    "score_segmentation",
    "similar",
    "store",
    "write_table1",
]


def write_table1(unified: Unified, path: AnyPath) -> None:
    """Writes Table I in the format of the file's suffix: .md, .tex or .csv.

    Raises:
        ConfigError: The suffix is another one.
    """
    path = Path(path)
    sheet = Sheet(HEADER, rows_of(unified.collections), texts=3, title="Table I")
    writers = {".md": sheet_to_markdown, ".tex": sheet_to_latex, ".csv": sheet_to_csv}
    if path.suffix not in writers:
        raise ConfigError(f"a table can't be a '{path.suffix}' file", where=path, fix="use .md, .tex or .csv")
    write_text(path, writers[path.suffix](sheet))


def export(run: str | Path, target: str, out: AnyPath, *, checkpoint: Literal["last", "best"] = "last") -> Path:
    """Writes a pre-trained encoder for another tool, with transfer.json and a model card.

    Args:
        run: Anything `maesil.load` accepts: a run, a checkpoint, an exported folder, a model on the hub.
        target: A name in `maesil.export.TARGETS`.
        out: The output folder: new, empty, or an earlier export, which is replaced.
        checkpoint: Which of the run's checkpoints to load.

    Raises:
        CheckpointError: There is no such encoder.
        ConfigError: The output folder contains something else.
        MissingExtraError: The target needs a package that is not installed.
    """
    out = Path(out)
    backbone, card = load_with_card(run, checkpoint=checkpoint)
    return export_backbone(backbone, card, target, out)


def embed(
    run: str | Path,
    store: AnyPath,
    out: AnyPath,
    *,
    console: Console | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes one vector per scan and per superpatch of a store, with positions in mm.

    Args:
        run: Anything `maesil.load` accepts.
        store: The scans, resampled as for the pre-training.
        out: The table: .parquet, .csv or .npz.
        console: Where to report how many of the patients the encoder was trained on; None: nowhere.
        progress: Called after every scan.

    Raises:
        ConfigError: The suffix is another one, or the store's voxels differ from the pre-training's.
        MissingExtraError: Parquet needs pyarrow.
    """
    store, out = Path(store), Path(out)
    require_table(out)
    backbone, card = load_with_card(run)
    scans = ScanStore(store)
    features = embed_store(backbone.to(default_device()), card, scans, progress=progress)
    if console is not None:
        console.print(seen_note(card.seen, scans.entries, whom="embedded"), markup=False)
    return write_features(features, out)


def similar(
    features: AnyPath,
    scan_id: str,
    *,
    at_mm: tuple[float, float, float] | None = None,
    count: int = 5,
    same_patient: bool = False,
) -> list[Match]:
    """Finds the scans nearest to a scan or, with a position, the regions nearest to its region there.

    Args:
        features: The table that `embed` wrote.
        scan_id: The query scan.
        at_mm: A position in LPS mm; None: whole scans are compared.
        count: Number of neighbours.
        same_patient: Whether the query's own patient may be among them.
    """
    features = Path(features)
    level = "scan" if at_mm is None else "superpatch"
    table = read_features(features)
    return similar_rows(table, scan_id, level=level, at_mm=at_mm, count=count, same_patient=same_patient)


def finetune_classification(
    config: ClassificationConfig,
    store: AnyPath,
    labels: AnyPath,
    run: AnyPath,
    *,
    label: str | None = None,
    console: Console | None = None,
    progress: Progress | None = None,
) -> Classified:
    """Classifies whole scans from a CSV of classes, cross-validated by patient.

    Args:
        config: Encoder, mode, folds.
        store: The scans.
        labels: CSV file with a column scan_id (or patient) and a column of classes.
        run: The run folder to write.
        label: The column of classes; None: the only other column.
        console: Where trainings show their progress.
        progress: Called after every scan or fold.

    Raises:
        ConfigError: The labels do not match the store, or the folds are impossible.
    """
    store, labels, run = Path(store), Path(labels), Path(run)
    scans = ScanStore(store, resident_gib=config.efficiency.resident_gib)
    cases = read_cases(labels, scans, label)
    return classify(config, scans, cases, run, console=console, progress=progress)


def masks(out: AnyPath, grid: Shape3 = (16, 16, 16), seed: int = 0) -> None:
    """Plots one mask of every strategy, plane by plane.

    Args:
        out: The image file: .png, .svg or .pdf.
        grid: Number of patches along (S, P, L).
        seed: Seed of the masks.
    """
    out = Path(out)
    patches = PatchGrid(grid, (1, 1, 1))
    drawn = {}
    for name, kind in MASKINGS.items():
        masking = kind()
        mask = masking.draw(1, patches, torch.Generator().manual_seed(seed))
        drawn[f"{name}: {masking.ratio:.1%} masked"] = mask[0].view(grid).numpy()
    save_figure(mask_gallery(drawn), out)
