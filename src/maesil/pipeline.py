"""The public verbs as Python functions; `maesil VERB` has the same names and options.

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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from maesil.config import RunConfig
from maesil.errors import ConfigError
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.runner import score_models
from maesil.evaluation.scores import Score, write_json_scores, write_scores
from maesil.evaluation.tables import tabulate, to_csv, to_latex, to_markdown
from maesil.models import Pretrainer, make_model
from maesil.models.interpolation import Interpolation
from maesil.models.mean import MeanFill
from maesil.runs import LoadedModel, load, model_card, run_record, run_store, settle, steps_done
from maesil.sampling.config import DataConfig
from maesil.sampling.regions import Region, regions_of
from maesil.store.prepare import PrepareConfig, PrepareReport, Progress
from maesil.store.prepare import prepare as prepare_store
from maesil.store.scanstore import ScanStore
from maesil.training.trainer import Job, train


def prepare(
    sources: Sequence[Path],
    out: Path,
    config: PrepareConfig | None = None,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Reads scans and writes them into a store; continues where an interrupted run stopped.

    Args:
        sources: Files, DICOM folders, or trees of these.
        out: The store, made if absent.
        config: Resampling and layout.
        scheduler: Address of a running dask scheduler; None: processes on this machine.
        workers: Processes on this machine; None: one per core; 0: none, all in this one.
        progress: Called after every scan with scans done, scans in all, and its name.

    Returns:
        What was prepared, what had been before, and what was quarantined, with reasons.
    """
    settings = config or PrepareConfig()
    return prepare_store(sources, out, settings, scheduler=scheduler, workers=workers, progress=progress)


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        status: "finished"; "interrupted", to be resumed by the same call; "already finished" where nothing was left.
        run: The run folder.
        step: Optimiser steps done.
        steps: Optimiser steps of the run.
    """

    status: Literal["finished", "interrupted", "already finished"]
    run: Path
    step: int
    steps: int


def pretrain(config: RunConfig, run: Path, *, console: Console | None = None) -> Outcome:
    """Pre-trains a model in a run folder; the same call resumes an interrupted run.

    Args:
        config: The full configuration; `config.data.store` must be set.
        run: The run folder, made if absent.
        console: Where to show progress; None: nowhere.

    Raises:
        ConfigError: No store is given, or the folder holds a run with other settings.
        TrainingError: The loss became NaN or infinite.
    """
    if config.data.store is None:
        raise ConfigError("no store is given", fix="--data.store STORE, as `maesil prepare` wrote it")
    store = ScanStore(config.data.store, resident_gib=config.efficiency.resident_gib)
    config = replace(config, data=replace(config.data, store=config.data.store.resolve()))
    settle(config, run)
    done = steps_done(run)
    if done >= config.train.steps:
        return Outcome("already finished", run, done, config.train.steps)
    torch.manual_seed(config.seed)
    job = Job(
        model=make_model(config.model, config.masking),
        store=store,
        data=config.data,
        train=config.train,
        monitor=config.monitor,
        efficiency=config.efficiency,
        seed=config.seed,
        run=run,
        record=run_record(config, store),
        card=lambda step, metrics: model_card(config, store, step, metrics),
    )
    status = train(job, console or Console(quiet=True))
    return Outcome(status, run, steps_done(run), config.train.steps)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run and their table.

    Attributes:
        scores: A row per scan, model, metric and region.
        table: Markdown, with the protocol and notes below.
        folder: Where scores.jsonl and the tables were written.
    """

    scores: tuple[Score, ...]
    table: str
    folder: Path


def evaluate(
    run: Path,
    *,
    store: Path | None = None,
    split: str = "test",
    checkpoint: Literal["last", "best"] = "last",
    protocol: Protocol | None = None,
    json_path: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores a run on held-out scans, beside a mean fill and an interpolation that see the same voxels.

    Args:
        run: The run folder.
        store: The store; None: the run's own.
        split: "test", "val" or "train".
        checkpoint: Which of the run's checkpoints.
        protocol: What is scored, and how; its window is the run's.
        json_path: Also write the scores as one JSON file.
        progress: Called after every scan and model.

    Raises:
        CheckpointError: The run has no checkpoint.
        StoreError: There is no store, or the split is empty.
    """
    loaded = load(run, checkpoint=checkpoint)
    data = loaded.config.data
    scans = ScanStore(store or run_store(run))
    regions = regions_of(scans, data, loaded.config.model.superpatch, split)
    protocol = replace(protocol or Protocol(), window=data.window)
    scored = score_models(contestants(loaded), scans, regions, protocol, progress=progress)
    notes = (*scored.notes, split_note(data, split, regions))
    table = tabulate(scored.scores, notes)
    folder = run / "evaluation" / split
    write_scores(folder / "scores.jsonl", scored.scores)
    for name, text in (("md", to_markdown(table)), ("tex", to_latex(table)), ("csv", to_csv(table))):
        (folder / f"table.{name}").write_text(text, encoding="utf-8")
    if json_path is not None:
        write_json_scores(json_path, scored.scores, notes)
    return Evaluation(scored.scores, to_markdown(table), folder)


def contestants(loaded: LoadedModel) -> dict[str, Pretrainer]:
    """The run's model and the two that learn nothing, on the same grid and masks."""
    model = loaded.model
    untrained = {"interpolation": Interpolation(model.grid, model.masking), "mean": MeanFill(model.grid, model.masking)}
    device = next(model.parameters()).device
    return {loaded.config.model.name: model, **{name: fill.to(device) for name, fill in untrained.items()}}


def split_note(data: DataConfig, split: str, regions: Sequence[Region]) -> str:
    """What the split means, in a sentence."""
    patients = len({region.entry.patient for region in regions})
    if data.holdout.by == "patient":
        return f"Split '{split}' by patient: {patients} patient(s) that training never saw."
    tiles = sum(len(region.tiles) for region in regions)
    return (
        f"Split '{split}' by superpatch: {tiles} superpatch(es) of {patients} patient(s) whose other superpatches were "
        "trained on. This shows that the method learns; it says nothing about unseen patients."
    )
