"""Classification of whole scans, cross-validated by patient: probes of frozen features, or full fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from pydantic import TypeAdapter
from rich.console import Console
from torch import Tensor

from maesil.catalog import NONE
from maesil.counts import count_of
from maesil.encoder.card import Transfer
from maesil.encoder.pool import Pool
from maesil.encoder.source import absolute_source
from maesil.encoder.start import decay_of, digest_of, starting_point
from maesil.encoder.tokens import moments, region_tokens, scan_tokens
from maesil.errors import ConfigError
from maesil.evaluation.intervals import interval_of, patient_interval, resampled_statistics
from maesil.evaluation.notes import folds_note
from maesil.evaluation.sheet import Sheet, sheet_to_markdown
from maesil.files import write_json, write_text
from maesil.metrics.classification import (
    balanced_accuracy,
    calibration_error,
    case_accuracy,
    case_brier,
    confusion,
    fold_auroc,
    untold,
)
from maesil.models.backbone import Backbone
from maesil.progress import Progress
from maesil.runs.claim import Differences, changed_settings, claim
from maesil.runs.kinds import CLASSIFICATION
from maesil.runs.load import default_device
from maesil.runs.lock import locked
from maesil.seen import seen_note
from maesil.store.scanstore import ScanStore
from maesil.tasks.classification.cases import Cases, fold_of
from maesil.tasks.classification.config import ClassificationConfig
from maesil.tasks.classification.fold import train_fold
from maesil.tasks.classification.network import attentive_probe, linear_probe, nearest_neighbours
from maesil.tasks.unread import refuse_in_classification

ENDS = ("value", "low", "high")


@dataclass(frozen=True)
class Classified:
    """A cross-validated classification.

    Attributes:
        table: The table in Markdown.
        scores: Metric to value, low and high end of its 95 % bootstrap interval over patients; NaN if there is none.
        folder: The run folder, with predictions.csv, scores.json, table.md.
    """

    table: str
    scores: dict[str, tuple[float, float, float]]
    folder: Path


def classify(
    config: ClassificationConfig,
    store: ScanStore,
    cases: Cases,
    run: Path,
    *,
    console: Console | None = None,
    progress: Progress | None = None,
) -> Classified:
    """Cross-validates a classification, and writes predictions.csv, scores.json and table.md.

    Args:
        config: Encoder, mode, folds.
        store: The scans.
        cases: The labelled scans.
        run: The run folder, created if absent.
        console: Where "full" shows its progress.
        progress: Called after every scan.

    Raises:
        ConfigError: A setting would be ignored, the folds are impossible, voxels differ from the pre-training's, or
            another call is writing the folder.
    """
    refuse_in_classification(config)
    decay = decay_of(config.layer_decay, config.init, random_start=config.random_start)
    config = replace(config, layer_decay=decay, init=absolute_source(config.init))
    fold = fold_of(cases, config.folds, config.seed)
    torch.manual_seed(config.seed)
    backbone, card = starting_point(config.init, config.preset, store, random_start=config.random_start)
    with locked(run, CLASSIFICATION):
        return _in_folder(config, store, cases, fold, backbone, card, run, console, progress)


def _in_folder(
    config: ClassificationConfig,
    store: ScanStore,
    cases: Cases,
    fold: Int[np.ndarray, " s"],
    backbone: Backbone,
    card: Transfer,
    run: Path,
    console: Console | None,
    progress: Progress | None,
) -> Classified:
    encoder = _encoder_of(config, backbone)
    _claim(run, config, cases, store.fingerprint, encoder)
    if config.mode == "full":
        probabilities = _full(config, store, cases, fold, encoder, run, console, progress)
    else:
        probabilities = _probed(config, backbone.to(default_device()), store, cases, fold, progress)
    scores = scored(probabilities, cases, fold)
    seen = seen_note(card.seen, [store.entry(scan) for scan in cases.scans])
    sheet = classification_sheet(config, cases, fold, probabilities, scores)
    sheet = replace(sheet, notes=(*sheet.notes, seen))
    _write_predictions(run / "predictions.csv", cases, fold, probabilities)
    record: dict[str, Any] = {"mode": config.mode, "classes": cases.classes, "seen": seen}
    record["scores"] = {
        name: {end: number if math.isfinite(number) else None for end, number in zip(ENDS, row, strict=True)}
        for name, row in scores.items()
    }
    record["confusion"] = confusion(probabilities, cases.truth).tolist()
    write_json(run / "scores.json", record)
    write_text(run / "table.md", sheet_to_markdown(sheet))
    return Classified(sheet_to_markdown(sheet), scores, run)


def _encoder_of(config: ClassificationConfig, backbone: Backbone) -> str | None:
    """Digest of the encoder to start from; None for random weights."""
    return None if config.random_start or config.init == NONE else digest_of(backbone)


def _claim(run: Path, config: ClassificationConfig, cases: Cases, store: str, encoder: str | None) -> None:
    """Writes settings, labels, and what tells store and encoder into the folder; refuses a folder with other ones."""
    wanted = {
        "settings": TypeAdapter(ClassificationConfig).dump_python(config, mode="json"),
        "truth": {scan: cases.classes[k] for scan, k in zip(cases.scans, cases.truth.tolist(), strict=True)},
        "store": store,
        "encoder": encoder,
    }

    def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
        before = {"store": store, "encoder": encoder, **before}  # version 0.2 recorded neither
        settings = before["settings"]
        before["settings"] = {**settings, "init": absolute_source(settings["init"])}  # nor where a relative path begins
        old, new = ({**each, **each["settings"], "settings": {}, "efficiency": {}} for each in (before, now))
        return changed_settings(old, new)

    claim(run / "config.json", wanted, holds="a classification", fix="give another --run", changed=changed)


def _probed(
    config: ClassificationConfig,
    backbone: Backbone,
    store: ScanStore,
    cases: Cases,
    fold: Int[np.ndarray, " s"],
    progress: Progress | None,
) -> Float[np.ndarray, "s k"]:
    tokens = []
    for done, scan in enumerate(cases.scans, start=1):
        entry = store.entry(scan)
        tokens.append(_summary(backbone, store, scan, None if config.mode == "attentive" else config.pool))
        if progress is not None:
            progress(done, len(cases.scans), entry.scan_id)
    truth, classes = torch.from_numpy(cases.truth), len(cases.classes)
    probabilities = np.zeros((len(cases.scans), classes), dtype=np.float64)
    for number in range(config.folds):
        taught, tested = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        known, asked = [tokens[at] for at in taught], [tokens[at] for at in tested]
        if config.mode == "attentive":
            found = attentive_probe(known, truth[taught], classes, asked, seed=config.seed)
        else:
            probe = linear_probe if config.mode == "linear" else nearest_neighbours
            found = probe(torch.cat(known), truth[taught], classes, torch.cat(asked))
        probabilities[tested] = found.double().numpy()
    return probabilities


def _summary(backbone: Backbone, store: ScanStore, scan: str, pool: Pool | None) -> Float[Tensor, "n e"]:
    """A scan's pooled tokens (1, e or 2e), or the mean tokens of its regions (n, e) for attentive pooling."""
    found = [row[1:] for row in scan_tokens(backbone, store, store.entry(scan))]
    if not found:
        raise ConfigError(f"the scan '{scan}' has no tissue", where=store.path, fix="leave it out of the labels")
    if pool is None:
        return torch.cat([region_tokens(backbone, tokens, solid) for tokens, solid in found])
    tokens = torch.cat([tokens[solid] for tokens, solid in found])
    return moments(tokens, pool)[None]


def _full(
    config: ClassificationConfig,
    store: ScanStore,
    cases: Cases,
    fold: Int[np.ndarray, " s"],
    encoder: str | None,
    run: Path,
    console: Console | None,
    progress: Progress | None,
) -> Float[np.ndarray, "s k"]:
    probabilities = np.zeros((len(cases.scans), len(cases.classes)), dtype=np.float64)
    predicted: list[str] = []

    def after(scan: str) -> None:
        predicted.append(scan)
        if progress is not None:
            progress(len(predicted), len(cases.scans), scan)

    for number in range(config.folds):
        torch.manual_seed(config.seed)
        start = starting_point(config.init, config.preset, store, random_start=config.random_start)
        if _encoder_of(config, start[0]) != encoder:
            fix = "give a checkpoint that is not trained further, and another --run"
            raise ConfigError("the encoder was trained further meanwhile", where=config.init, fix=fix)
        taught, tested = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        known = {cases.scans[at]: int(cases.truth[at]) for at in taught}
        asked = [cases.scans[at] for at in tested]
        fold_run = run / f"fold-{number}"
        probabilities[tested] = train_fold(config, store, start, known, asked, fold_run, console, after)
    return probabilities


def scored(
    probabilities: Float[np.ndarray, "s k"], cases: Cases, fold: Int[np.ndarray, " s"]
) -> dict[str, tuple[float, float, float]]:
    """Every metric with its 95 % bootstrap interval; patients are resampled, with all their scans.

    Args:
        probabilities: Probabilities (s, k) of each case, from the model that was tested on its fold.
        cases: Classes and patients.
        fold: The fold of each case, (s,). AUROC is the mean over folds; the others are computed over all cases.
    """

    def of_all(metric: Callable[[Int[np.ndarray, " n"]], float]) -> tuple[float, float, float]:
        several = len(set(cases.patients)) > 1
        values = resampled_statistics(metric, cases.patients) if several else np.empty(0)
        values = values[np.isfinite(values)]  # a resample may lack a class
        low, high = interval_of(values) if len(values) else (math.nan, math.nan)
        return metric(np.arange(len(cases.truth))), low, high

    def of_each(values: Float[np.ndarray, " s"]) -> tuple[float, float, float]:
        return float(values.mean()), *patient_interval(values.tolist(), cases.patients)

    return {
        "auroc": of_all(lambda at: fold_auroc(probabilities[at], cases.truth[at], fold[at])),
        "accuracy": of_each(case_accuracy(probabilities, cases.truth)),
        "balanced_accuracy": of_all(lambda at: balanced_accuracy(probabilities[at], cases.truth[at])),
        "calibration_error": of_all(lambda at: calibration_error(probabilities[at], cases.truth[at])),
        "brier": of_each(case_brier(probabilities, cases.truth)),
    }


def classification_sheet(
    config: ClassificationConfig,
    cases: Cases,
    fold: Int[np.ndarray, " s"],
    probabilities: Float[np.ndarray, "s k"],
    scores: dict[str, tuple[float, float, float]],
) -> Sheet:
    """A row per metric; the notes say which patients were tested, how, and which folds a metric leaves out."""
    rows = [
        (name.replace("_", " "), f"{value:.3f}", f"[{low:.3f}, {high:.3f}]" if math.isfinite(low) else "–")
        for name, (value, low, high) in scores.items()
    ]
    table = confusion(probabilities, cases.truth)
    counts = ", ".join(f"{name}: {int((cases.truth == k).sum())}" for k, name in enumerate(cases.classes))
    notes = [
        f"{count_of(len(cases.scans), 'scan')} of {count_of(len(set(cases.patients)), 'patient')} ({counts}). "
        f"{folds_note(config.folds)} "
        "Intervals: 95 % bootstrap, patients resampled.",
        "auroc: one class against the rest in each fold, mean over classes, then over folds. calibration error: "
        "expected calibration error, 10 bins. brier: 0 is best, 2 is worst.",
        *_left_out(cases, fold),
    ]
    for k, name in enumerate(cases.classes):
        found = ", ".join(f"{other} {table[k, at]}" for at, other in enumerate(cases.classes))
        notes.append(f"True class {name}: predicted {found}.")
    return Sheet(("metric", "value", "95 % interval"), rows, notes, title=f"Classification, {config.mode}")


def _left_out(cases: Cases, fold: Int[np.ndarray, " s"]) -> list[str]:
    """One note for every fold whose AUROC leaves out a class."""
    notes = []
    for number, absent in untold(cases.truth, fold, len(cases.classes)).items():
        if len(absent) == len(cases.classes):
            notes.append(f"Fold {number} has cases of only one class: it has no auroc and is left out of the mean.")
        else:
            names = ", ".join(cases.classes[k] for k in absent)
            notes.append(f"Fold {number} has no case of {names}: its auroc is the mean of its other classes.")
    return notes


def _write_predictions(
    path: Path, cases: Cases, fold: Int[np.ndarray, " s"], probabilities: Float[np.ndarray, "s k"]
) -> None:
    known = {"scan_id": cases.scans, "patient": cases.patients, "fold": fold}
    table = pd.DataFrame({**known, "truth": [cases.classes[number] for number in cases.truth]})
    shares = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in cases.classes])
    table.join(shares).to_csv(path, index=False, float_format="%.6f")
