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
from maesil.models import make_model
from maesil.runs import model_card, run_record, settle, steps_done
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
