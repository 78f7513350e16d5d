"""The verb `pretrain`: a model trained in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from maesil.config import RunConfig, changed_keys, from_dict, to_dict
from maesil.errors import ConfigError
from maesil.models import make_model
from maesil.runs.card import model_card, run_record
from maesil.runs.claim import claim
from maesil.runs.load import steps_done
from maesil.sampling.regions import check_overrides, split_summary, split_warnings
from maesil.store.location import absolute
from maesil.store.scanstore import ScanStore
from maesil.training.devices import world_size
from maesil.training.trainer import Job, train


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
        ConfigError: No store is given, an override names no patient, or the folder holds a run with other settings.
        TrainingError: The loss became NaN or infinite.
    """
    if config.data.store is None:
        raise ConfigError("no store is given", fix="--data.store STORE, as `maesil prepare` wrote it")
    store = ScanStore(config.data.store, resident_gib=config.efficiency.resident_gib)
    config = replace(config, data=replace(config.data, store=absolute(config.data.store)))
    done = steps_done(run)
    if not done:  # a run that has begun is not cut off from its end by this
        check_overrides(store, config.data.holdout)
    settle(config, run)
    if done >= config.train.steps:
        return Outcome("already finished", run, done, config.train.steps)
    screen = console or Console(quiet=True)
    screen.print(f"resumed at step {done}" if done else split_summary(store, config.data.holdout), markup=False)
    for warning in split_warnings(store, config.data.holdout):
        screen.print(f"warning: {warning}", markup=False)
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
    status = train(job, screen)
    return Outcome(status, run, steps_done(run), config.train.steps)


def settle(config: RunConfig, run: Path) -> None:
    """Writes the resolved configuration into a new run folder, or checks that an old one agrees with it.

    Raises:
        ConfigError: The folder holds a run whose result these settings would change.
    """

    def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
        old = from_dict(before, where=run)
        keys = changed_keys(old, config)
        # The same superpatches make a step, whoever of how many devices computes which of them.
        if _global_batch(old) == _global_batch(config):
            keys = [key for key in keys if key not in ("train.batch", "train.accumulate")]
        return keys

    fix = "resume with the same settings, or give another --run (of demo: --out)"
    claim(run / "config.yaml", to_dict(config), holds="a run", fix=fix, changed=changed)


def _global_batch(config: RunConfig) -> int:
    return config.train.global_batch(world_size(config.efficiency))
