"""The command `pretrain`: trains a model in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback
from rich.console import Console

from maesil.config import RunConfig, changed_keys, from_dict, to_dict
from maesil.errors import ConfigError, EmptySplitError
from maesil.files import AnyPath
from maesil.models import make_model
from maesil.models.transformer import recompute_blocks
from maesil.rank import is_first_rank
from maesil.runs.advice import cpu_advice
from maesil.runs.card import model_card, run_record, store_lines
from maesil.runs.checkpoints import steps_done
from maesil.runs.claim import SETTINGS, claim
from maesil.runs.lock import locked
from maesil.sampling.config import DataConfig
from maesil.sampling.dataset import SuperpatchDataset
from maesil.sampling.plan import GridPlan, make_plan
from maesil.sampling.regions import check_overrides, regions_of, split_summary, split_warnings
from maesil.store.location import absolute
from maesil.store.scanstore import ScanStore
from maesil.training.batches import Batches
from maesil.training.callbacks import Images
from maesil.training.config import EfficiencyConfig
from maesil.training.devices import world_size
from maesil.training.forecast import Forecast
from maesil.training.live_progress import LiveProgress
from maesil.training.module import PretrainModule
from maesil.training.trainer import Job, fit, prepare_process


@dataclass(frozen=True)
class Outcome:
    """Result of a training run.

    Attributes:
        status: "finished"; "interrupted" (the same call resumes it); "already finished" if no steps were left.
        run: The run folder.
        step: Optimiser steps done.
        steps: Optimiser steps of the run.
    """

    status: Literal["finished", "interrupted", "already finished"]
    run: Path
    step: int
    steps: int


def pretrain(config: RunConfig, run: AnyPath, *, console: Console | None = None) -> Outcome:
    """Pre-trains a model in a run folder; the same call resumes an interrupted run.

    Args:
        config: The full configuration; `config.data.store` must be set.
        run: The run folder, created if absent.
        console: Where to show progress; None: nowhere.

    Raises:
        ConfigError: No store is given, an override names an unknown patient, the folder contains a run with other
            settings, or another call is writing it.
        TrainingError: The loss became NaN or infinite.
    """
    run = Path(run)
    if config.data.store is None:
        raise ConfigError("no store is given", fix="--data.store STORE, a folder that `maesil prepare` wrote")
    store = ScanStore(config.data.store, resident_gib=config.efficiency.resident_gib)
    config = replace(config, data=replace(config.data, store=_absolute(config.data)))
    if not steps_done(run):  # only new runs: a run that has begun may always be finished
        check_overrides(store, config.data.holdout)
    with locked(run):
        return _continue(config, store, run, console or Console(quiet=True))


def _absolute(data: DataConfig) -> Path | tuple[Path, ...]:
    """The store as an absolute path, or the stores."""
    paths = tuple(map(absolute, data.stores))
    return paths[0] if len(paths) == 1 else paths


def _continue(config: RunConfig, store: ScanStore, run: Path, screen: Console) -> Outcome:
    done = steps_done(run)
    if is_first_rank():
        settle(config, run)
    if done >= config.train.steps:
        return Outcome("already finished", run, done, config.train.steps)
    screen.print(f"resumed at step {done}" if done else split_summary(store, config.data.holdout), markup=False)
    for line in store_lines(store):
        screen.print(line, markup=False)
    for warning in split_warnings(store, config.data.holdout):
        screen.print(f"warning: {warning}", markup=False)
    status = _train(config, store, run, screen)
    return Outcome(status, run, steps_done(run), config.train.steps)


def _train(config: RunConfig, store: ScanStore, run: Path, screen: Console) -> Literal["finished", "interrupted"]:
    """Trains from the run's last checkpoint, or from the start."""
    job = Job(
        train=config.train,
        monitor=config.monitor,
        efficiency=config.efficiency,
        seed=config.seed,
        run=run,
        record=run_record(config, store),
        card=lambda step, metrics: model_card(config, store, step, metrics),
    )
    efficiency = prepare_process(job)
    shape = config.model.superpatch
    plan = make_plan(regions_of(store, config.data, shape, "train"), config.data, config.seed)
    training = SuperpatchDataset(store, plan, shape)
    held_out = validation_superpatches(config, store)
    if config.monitor.validate_every and held_out is None:
        named = "; choose a patient: --data.holdout.patients.overrides PATIENT val"
        hint = named if config.data.holdout.by == "patient" else ""
        screen.print(
            f"no superpatch is held out for validation: no validation score, images or checkpoint `best`{hint}"
        )
    module = make_module(config, efficiency)
    forecast = Forecast(screen, partial(cpu_advice, config, str(efficiency.accelerator)))
    callbacks: list[Callback] = [LiveProgress(screen), forecast]
    if held_out is not None and config.monitor.image_every:
        callbacks.insert(0, Images(held_out[0], config.monitor.image_every))
    return fit(module, Batches(training, held_out, config.train, efficiency), job, efficiency, callbacks)


def make_module(config: RunConfig, efficiency: EfficiencyConfig) -> PretrainModule:
    """The module that a run trains, with its initial weights.

    Args:
        config: Settings of the run.
        efficiency: Settings without "auto".
    """
    torch.manual_seed(config.seed)
    model = make_model(config.model, config.masking)
    if efficiency.recompute:
        recompute_blocks(model)
    if efficiency.compile:
        model.loss = torch.compile(model.loss, dynamic=False)  # type: ignore[method-assign]
    return PretrainModule(model, config.train, config.data.window, config.data.flip_axes, config.seed)


def validation_superpatches(config: RunConfig, store: ScanStore) -> SuperpatchDataset | None:
    """The grid's held-out superpatches in a fixed, shuffled order; None if nothing is held out."""
    if not config.monitor.validate_every:
        return None
    try:
        regions = regions_of(store, config.data, config.model.superpatch, "val")
    except EmptySplitError:  # the store may be too small to hold any out
        return None
    plan = GridPlan(regions, seed=0)
    count = min(len(plan), config.monitor.validation_superpatches)
    return SuperpatchDataset(store, plan, config.model.superpatch, count)


def settle(config: RunConfig, run: Path) -> None:
    """Writes the resolved configuration into a new run folder, or checks that it agrees with an existing run's.

    Raises:
        ConfigError: The folder contains a run whose result these settings would change.
    """

    def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
        old = from_dict(before, where=run)
        keys = changed_keys(old, config)
        # A step uses the same superpatches, however they are divided among devices.
        if _global_batch(old) == _global_batch(config):
            keys = [key for key in keys if key not in ("train.batch", "train.accumulate")]
        return keys

    fix = "resume with the same settings, or give another --run (for demo: --out)"
    claim(run / SETTINGS, to_dict(config), holds="a run", fix=fix, changed=changed)


def _global_batch(config: RunConfig) -> int:
    return config.train.global_batch(world_size(config.efficiency))
