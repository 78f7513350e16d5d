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

from maesil.catalog import NONE
from maesil.config import RunConfig, changed_values, from_dict, load_yaml, to_dict
from maesil.cores import OtherLoad
from maesil.errors import ConfigError, EmptySplitError, StoreError
from maesil.files import AnyPath
from maesil.models import Pretrainer, make_model
from maesil.models.transformer import recompute_blocks
from maesil.progress import Progress
from maesil.rank import is_first_rank
from maesil.runs.advice import cpu_advice, cpu_warning, sharing_advice
from maesil.runs.card import model_card, run_record, store_lines
from maesil.runs.checkpoints import checkpoint_of, steps_done
from maesil.runs.claim import SETTINGS, Differences, claim
from maesil.runs.from_weights import (
    other_voxels,
    started,
    with_absolute_init,
)
from maesil.runs.kinds import PRETRAINING
from maesil.runs.lock import locked
from maesil.runs.sides import moved_warnings, side_warnings
from maesil.sampling.config import DataConfig
from maesil.sampling.dataset import SuperpatchDataset
from maesil.sampling.plan import GridPlan, make_plan
from maesil.sampling.regions import Region, check_overrides, regions_of, split_summary, split_warnings
from maesil.store.location import absolute, is_there
from maesil.store.scanstore import ScanStore
from maesil.training.batches import Batches
from maesil.training.callbacks import Images
from maesil.training.config import EfficiencyConfig
from maesil.training.devices import resolve, world_size
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


def pretrain(
    config: RunConfig, run: AnyPath, *, console: Console | None = None, progress: Progress | None = None
) -> Outcome:
    """Pre-trains a model in a run folder; the same call resumes an interrupted run.

    A run can be made longer (`config.train.steps`), whether it is finished or not, and go on with a copy of its store.

    Args:
        config: The full configuration; `config.data.store` must be set.
        run: The run folder, created if absent.
        console: Where to show progress; None: nowhere.
        progress: Called after every step.

    Raises:
        ConfigError: No store is given, an override names an unknown patient, the folder contains a run with other
            settings, or another call is writing it.
        TrainingError: The loss became NaN or infinite.
    """
    run = Path(run)
    if config.data.store is None:
        raise ConfigError("no store is given", fix="--data.store STORE, a folder that `maesil prepare` wrote")
    if steps_done(run) and not all(map(is_there, config.data.stores)):
        fix = "give the store's new place: --data.store STORE; its manifest must be the same"
        raise StoreError("the run's store is no longer there", where=config.data.store, fix=fix)
    store = ScanStore(config.data.store, resident_gib=config.efficiency.resident_gib)
    config = replace(config, data=replace(config.data, store=_absolute(config.data)))
    config = with_absolute_init(config)
    if not steps_done(run):  # only new runs: a run that has begun may always be finished
        check_overrides(store, config.data.holdout)
    with locked(run, PRETRAINING):
        return _continue(config, store, run, console or Console(quiet=True), progress)


def _absolute(data: DataConfig) -> Path | tuple[Path, ...]:
    """The store as an absolute path, or the stores."""
    paths = tuple(map(absolute, data.stores))
    return paths[0] if len(paths) == 1 else paths


def _continue(config: RunConfig, store: ScanStore, run: Path, screen: Console, progress: Progress | None) -> Outcome:
    done = steps_done(run)
    config = settle(config, run, store)
    if done >= config.train.steps:
        return Outcome("already finished", run, done, config.train.steps)
    screen.print(
        f"resumed at step {done}" if done else split_summary(store, config.data, config.model.superpatch), markup=False
    )
    for line in store_lines(store):
        screen.print(line, markup=False)
    if config.lengthened and config.lengthened[-1][0] == done:
        before = config.lengthened[-1][1]
        screen.print(
            f"made longer: from {before} to {config.train.steps} steps; the learning rate moves to the longer schedule"
        )
    moved = moved_warnings(checkpoint_of(run)[1].get("seen"), store, config) if done else []
    for warning in (*moved, *split_warnings(store, config.data.holdout)):
        screen.print(f"warning: {warning}", markup=False)
    status = _train(config, store, run, screen, progress)
    return Outcome(status, run, steps_done(run), config.train.steps)


def _train(
    config: RunConfig, store: ScanStore, run: Path, screen: Console, progress: Progress | None
) -> Literal["finished", "interrupted"]:
    """Trains from the run's last checkpoint, or from the start."""
    module = make_module(config, resolve(config.efficiency))
    initial = _initial(config, module.model, store, run, screen)
    if not steps_done(run) and (warning := cpu_warning(config)):
        screen.print(f"warning: {warning}", markup=False)
    job = Job(
        train=config.train,
        monitor=config.monitor,
        efficiency=config.efficiency,
        seed=config.seed,
        run=run,
        record=run_record(config, store, initial),
        card=lambda step, metrics: model_card(config, store, step, metrics, initial),
    )
    efficiency = prepare_process(job)
    shape = config.model.superpatch
    plan = make_plan(regions_of(store, config.data, shape, "train"), config.data, config.seed)
    training = SuperpatchDataset(store, plan, shape)
    held_out = validation_superpatches(config, store)
    if config.monitor.validate_every and held_out is None:
        by = config.data.holdout.by
        fix = "choose a patient: --data.holdout.patients.overrides PATIENT val"
        if by == "superpatch":
            fix = "prepare the scans at a smaller spacing, or hold out patients: --data.holdout.by patient"
        screen.print(f"no {by} is held out for validation: no validation score, images or checkpoint `best`; {fix}")
    forecast = Forecast(screen, partial(_advice, config, efficiency, OtherLoad()))
    callbacks: list[Callback] = [forecast]
    if held_out is not None and config.monitor.image_every:
        callbacks.append(Images(held_out[0], config.monitor.image_every))
    batches = Batches(training, held_out, config.train, efficiency)
    return fit(module, batches, job, efficiency, LiveProgress(screen, report=progress), callbacks)


def _advice(config: RunConfig, efficiency: EfficiencyConfig, load: OtherLoad, seconds: float) -> str:
    """What to do about a run that takes so many seconds."""
    accelerator = str(efficiency.accelerator)
    is_alone = accelerator == "cpu" and world_size(efficiency) == 1  # else the other processes may be the run's own
    shared = sharing_advice(torch.get_num_threads(), load.cores()) if is_alone else ""
    return "; ".join(filter(None, (shared, cpu_advice(config, accelerator, seconds))))


def _initial(
    config: RunConfig, model: Pretrainer, store: ScanStore, run: Path, screen: Console
) -> dict[str, Any] | None:
    """What the record says of the weights that the run started from, which a new run loads; None: random weights."""
    if config.init != NONE and steps_done(run):
        record = checkpoint_of(run)[1]
        return {"init": record["init"], "seen": record["seen"]["before"]}
    initial = started(config, model)
    if initial is None:
        return None
    screen.print(f"starts from {initial.loaded} of {config.init}, step {initial.step}", markup=False)
    voxels = dict.fromkeys(other_voxels(initial, settings) for settings in store.settings_of_all)
    warnings = [*voxels, *side_warnings(initial, store, config)]
    for warning in filter(None, warnings):
        screen.print(f"warning: {warning}", markup=False)
    return {"init": initial.record(), "seen": initial.seen}


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
    return PretrainModule(
        model, config.train, config.data.window, config.data.flip_axes, config.seed, config.lengthened
    )


def validation_superpatches(config: RunConfig, store: ScanStore) -> SuperpatchDataset | None:
    """The grid's held-out superpatches in a fixed, shuffled order; None if nothing is held out."""
    regions = validation_regions(config, store)
    if not regions:
        return None
    plan = GridPlan(regions, seed=0)
    count = min(len(plan), config.monitor.validation_superpatches)
    return SuperpatchDataset(store, plan, config.model.superpatch, count)


def validation_regions(config: RunConfig, store: ScanStore) -> tuple[Region, ...]:
    """The regions that a run validates on, one per scan; none if it does not validate, or nothing is held out."""
    if not config.monitor.validate_every:
        return ()
    try:
        return regions_of(store, config.data, config.model.superpatch, "val")
    except EmptySplitError:  # the store may be too small to hold any out
        return ()


def settle(config: RunConfig, run: Path, store: ScanStore | None = None) -> RunConfig:
    """Writes the resolved configuration into a new run folder, or checks that it agrees with an existing run's.

    A run that has begun may become longer, and its store may be in another place if the manifest is the same.

    Args:
        config: The configuration, with the store's absolute path.
        run: The run folder.
        store: The store; None: it may not be in another place.

    Returns:
        The configuration, with the steps at which the run was made longer.

    Raises:
        ConfigError: The folder contains a run whose result these settings would change.
    """
    kept = run / SETTINGS
    recorded_batch = checkpoint_of(run)[1].get("global_batch") if steps_done(run) else None
    if kept.is_file():
        config = _lengthened(load_yaml(kept), config, steps_done(run))

    def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
        old = with_absolute_init(from_dict(before, where=run))
        found = changed_values(old, config)
        may_change: set[str] = set()
        # A step uses the same superpatches, however they are divided among devices.
        batch, wanted = recorded_batch or _global_batch(old), _global_batch(config)
        if batch == wanted:
            may_change |= {"train.batch", "train.accumulate"}
        elif not {"train.batch", "train.accumulate"} & set(found):  # the number of devices is another one
            found["superpatches per step"] = batch, wanted
        if old.train.steps < config.train.steps:
            may_change |= {"train.steps", "lengthened"}
        if "data.store" in found and store is not None and _is_same_store(run, old, store):
            may_change.add("data.store")
        return {key: values for key, values in found.items() if key not in may_change}

    fix = (
        "resume with the same settings (--run alone takes the run's own), or give another --run (for `maesil demo`: "
        "--out); --train.steps may become larger, and --data.store may name a copy of the store with the same "
        "manifest; on another number of devices, adapt --train.batch or --train.accumulate"
    )
    if is_first_rank():
        claim(kept, to_dict(config), holds="a run", fix=fix, changed=changed)
    return config


def _lengthened(old: RunConfig, config: RunConfig, done: int) -> RunConfig:
    """The configuration with the steps at which the run was made longer, now and before."""
    longer = old.lengthened
    if done and config.train.steps > old.train.steps and done not in (at for at, _ in longer):
        longer = (*longer, (done, old.train.steps))
    return replace(config, lengthened=longer)


def _is_same_store(run: Path, old: RunConfig, store: ScanStore) -> bool:
    """Whether a store has the manifest that the run was trained on, or nothing was trained yet."""
    if not steps_done(run):
        return True
    recorded = checkpoint_of(run)[1].get("store")
    if recorded is None and old.data.store is not None and all(map(is_there, old.data.stores)):  # a run of version 0.1
        recorded = ScanStore(old.data.store).fingerprint
    return recorded == store.fingerprint


def _global_batch(config: RunConfig) -> int:
    return config.train.global_batch(world_size(config.efficiency))
