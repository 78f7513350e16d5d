"""Trains a module with Lightning into a run folder; the same call resumes the run."""

from __future__ import annotations

import logging
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.precision import MixedPrecision

from maesil.extras import optional
from maesil.files import write_text
from maesil.rank import is_first_rank
from maesil.training.callbacks import Checkpoints, GracefulStop, LastScore, LastWord, Meter
from maesil.training.checkpoint import sweep
from maesil.training.checkpoint_folder import STATE
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig
from maesil.training.devices import resolve, world_size
from maesil.training.live_progress import LiveProgress
from maesil.training.logs import CsvLog
from maesil.training.sharding import FullySharded
from maesil.training.stepper import Stepper

Card = Callable[[int, Mapping[str, float]], str]
"""Function that makes a checkpoint's card.md from its step and its metrics."""


@dataclass(frozen=True)
class Job:
    """Everything that a training run needs besides its module and its batches.

    Attributes:
        train: Settings of the optimiser and number of steps.
        monitor: Intervals of logs, validation and checkpoints.
        efficiency: Devices and precision.
        seed: Seed of all random numbers.
        run: Path of the run folder.
        record: Content of config.json in every checkpoint.
        card: Function that makes a checkpoint's card.md from its step and its metrics.
    """

    train: TrainConfig
    monitor: MonitorConfig
    efficiency: EfficiencyConfig
    seed: int
    run: Path
    record: Mapping[str, Any]
    card: Card


def prepare_process(job: Job) -> EfficiencyConfig:
    """Seeds this process, sets its number of threads, and returns the settings without "auto"."""
    pl.seed_everything(job.seed, verbose=False)
    efficiency = resolve(job.efficiency)
    if efficiency.threads != "auto":
        torch.set_num_threads(efficiency.threads)
    return efficiency


def fit(
    module: Stepper,
    data: pl.LightningDataModule,
    job: Job,
    efficiency: EfficiencyConfig,
    bar: LiveProgress,
    callbacks: Sequence[pl.Callback] = (),
) -> Literal["finished", "interrupted"]:
    """Trains a module from the run's last checkpoint, or from the start. Ctrl-C saves a checkpoint and stops.

    Args:
        module: What is trained.
        data: Its batches.
        job: Settings, run folder, and what its checkpoints say.
        efficiency: Devices and precision, without "auto".
        bar: Where progress is shown.
        callbacks: Callbacks of this kind of training.
    """
    checkpoints = job.run / "checkpoints"
    if is_first_rank():  # the lock is its: other ranks must not touch the folder if another call holds it
        sweep(checkpoints)
    stop = GracefulStop(bar.say)
    state = checkpoints / "last" / STATE
    always = [
        LastWord(),
        LastScore(),
        stop,
        Meter(row_every(job)),
        Checkpoints(checkpoints, job.monitor.checkpoint_every, job.record, job.card),
    ]
    with _quiet(), ExitStack() as at_end:
        parts = module.last_stage is not None
        trainer = make_trainer(job, efficiency, [*always, *callbacks, bar], in_parts=parts)
        at_end.callback(_finish, trainer.loggers)
        at_end.enter_context(_interrupt_for_exit())
        trainer.fit(module, datamodule=data, ckpt_path=str(state) if state.is_file() else None, weights_only=True)
    return "interrupted" if stop.requested and trainer.global_step < job.train.steps else "finished"


@contextmanager
def _interrupt_for_exit() -> Iterator[None]:
    """Raises KeyboardInterrupt again where Lightning exits because of it: a notebook must live on, a command say so."""
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None


def row_every(job: Job) -> int:
    """Number of steps between rows of the logs: a run that is shorter than the interval has a row at its end."""
    return min(job.monitor.log_every, job.train.steps)


def make_trainer(
    job: Job, efficiency: EfficiencyConfig, callbacks: list[pl.Callback], *, in_parts: bool = False
) -> pl.Trainer:
    """Makes a Lightning Trainer. The run is one Lightning epoch, so a resumed run is always mid-epoch.

    Args:
        job: Everything about the run but its module and its batches.
        efficiency: Devices and precision, without "auto".
        callbacks: Callbacks, in order.
        in_parts: Whether some steps leave some weights without a gradient.
    """
    validates = bool(job.monitor.validate_every)
    return pl.Trainer(
        accelerator=efficiency.accelerator,
        devices=efficiency.devices,
        num_nodes=efficiency.nodes,
        **_strategy(efficiency, in_parts),
        **_precision(efficiency),
        max_steps=job.train.steps,
        accumulate_grad_batches=job.train.accumulate,
        gradient_clip_val=job.train.clip_norm,
        val_check_interval=job.monitor.validate_every * job.train.accumulate if validates else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        logger=_loggers(job),
        callbacks=callbacks,
        log_every_n_steps=row_every(job),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic="warn" if efficiency.accelerator == "cpu" else False,
        default_root_dir=job.run,
    )


def _strategy(efficiency: EfficiencyConfig, in_parts: bool) -> dict[str, Any]:
    """Arguments of the Trainer that choose the strategy for several devices."""
    world = world_size(efficiency)
    if efficiency.strategy == "fsdp2":  # weights gathered in inference mode cannot be trained afterwards
        return {"strategy": FullySharded(world), "inference_mode": False}
    name = "ddp" if efficiency.strategy == "auto" and world > 1 else efficiency.strategy
    return {"strategy": "ddp_find_unused_parameters_true" if name == "ddp" and in_parts else name}


def _precision(efficiency: EfficiencyConfig) -> dict[str, Any]:
    """Arguments of the Trainer that choose the precision. On a CPU it turns "16-mixed" into bf16; a plugin does not."""
    if efficiency.precision != "16-mixed":
        return {"precision": efficiency.precision}
    device = "cuda" if efficiency.accelerator == "gpu" else "cpu"
    return {"plugins": [MixedPrecision("16-mixed", device)]}


def _loggers(job: Job) -> list[Any]:
    logs = job.run / "logs"
    always = [CsvLog(logs / "metrics.csv"), TensorBoardLogger(str(logs), name="", version="tensorboard")]
    return always if job.monitor.wandb is None else [*always, _wandb(job, job.monitor.wandb)]


def _wandb(job: Job, project: str) -> Any:
    """A logger of Weights & Biases, under one id for all calls that continue the run.

    Raises:
        MissingExtraError: The package is not installed.
    """
    optional("wandb", "wandb")
    from pytorch_lightning.loggers import WandbLogger

    logs = job.run / "logs"
    kept = logs / "wandb-id"
    if is_first_rank() and not kept.is_file():
        write_text(kept, secrets.token_hex(4))
    known = kept.read_text(encoding="utf-8") if kept.is_file() else None
    settings = dict(job.record)
    return WandbLogger(
        name=job.run.name, project=project, save_dir=str(logs), id=known, resume="allow", config=settings
    )


def _finish(loggers: Sequence[Any]) -> None:
    """Ends the curves of Weights & Biases: a later training of this process would go on with them."""
    from pytorch_lightning.loggers import WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


class _quiet:  # noqa: N801 (reads as the statement it is)
    """Hides Lightning's tips and device lines, which no user needs, so that our own progress is all there is."""

    NAMES = (
        "pytorch_lightning",
        "pytorch_lightning.utilities.rank_zero",
        "lightning_fabric",
        "lightning_fabric.utilities.rank_zero",
    )

    def __enter__(self) -> None:
        self._levels = {name: logging.getLogger(name).level for name in self.NAMES}
        for name in self.NAMES:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric|torch\.utils\.tensorboard")

    def __exit__(self, *error: object) -> None:
        self._warnings.__exit__(*error)  # type: ignore[arg-type]
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
