"""From a configuration to a trained run folder, resumable by the same call."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.precision import MixedPrecision
from rich.console import Console

from maesil.errors import EmptySplitError
from maesil.models.contract import Pretrainer
from maesil.models.transformer import recompute_blocks
from maesil.sampling.config import DataConfig
from maesil.sampling.dataset import ResumableLoader, SuperpatchDataset
from maesil.sampling.plan import GridPlan, OnePass, Order, make_plan
from maesil.sampling.regions import Region, regions_of
from maesil.store.scanstore import ScanStore
from maesil.training.callbacks import Checkpoints, GracefulStop, Images, Meter
from maesil.training.checkpoint import STATE, sweep
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig
from maesil.training.devices import resolve, world_size
from maesil.training.logs import CsvLog
from maesil.training.module import PretrainModule
from maesil.training.progress import LiveProgress
from maesil.training.sharding import FullySharded
from maesil.training.stepper import Stepper


@dataclass(frozen=True)
class Job:
    """What a training needs to know; `pipeline.pretrain` puts it together.

    Attributes:
        model: The pretrainer, freshly initialised.
        store: The prepared store.
        data: What is drawn from it.
        train: Optimiser and length.
        monitor: Logs, validation, checkpoints.
        efficiency: Devices, precision, workers.
        seed: Of data order, flips and masks.
        run: The run folder.
        record: Written as config.json into every checkpoint.
        card: Makes a checkpoint's card.md from step and metrics.
    """

    model: Pretrainer
    store: ScanStore
    data: DataConfig
    train: TrainConfig
    monitor: MonitorConfig
    efficiency: EfficiencyConfig
    seed: int
    run: Path
    record: Mapping[str, Any]
    card: Callable[[int, Mapping[str, float]], str]


@runtime_checkable
class AnyJob(Protocol):
    """What `fit` needs to know of any training."""

    @property
    def train(self) -> TrainConfig:
        """Optimiser and length."""

    @property
    def monitor(self) -> MonitorConfig:
        """Logs, validation, checkpoints."""

    @property
    def efficiency(self) -> EfficiencyConfig:
        """Devices, precision, workers."""

    @property
    def seed(self) -> int:
        """Of everything drawn."""

    @property
    def run(self) -> Path:
        """The run folder."""

    @property
    def record(self) -> Mapping[str, Any]:
        """Written as config.json into every checkpoint."""

    @property
    def card(self) -> Callable[[int, Mapping[str, float]], str]:
        """Makes a checkpoint's card.md from step and metrics."""


class PretrainData(pl.LightningDataModule):
    """The loaders of a run, for this rank, from where the run is.

    Args:
        job: The training.
        efficiency: Resolved.
    """

    def __init__(self, job: Job, efficiency: EfficiencyConfig) -> None:
        super().__init__()
        self.job = job
        self.efficiency = efficiency
        shape = job.model.grid.superpatch
        self.train_regions = regions_of(job.store, job.data, shape, "train")
        self.validation = _validation_regions(job)
        self.dataset = SuperpatchDataset(job.store, make_plan(self.train_regions, job.data, job.seed), shape)

    def train_dataloader(self) -> ResumableLoader:
        """Draws of this rank from the run's current step to its last."""
        trainer, train = self._trainer(), self.job.train
        start, stop = trainer.global_step * train.accumulate, train.steps * train.accumulate
        order = Order(train.batch, trainer.global_rank, trainer.world_size, start, stop)
        workers = int(self.efficiency.workers)
        return ResumableLoader(self.dataset, order, workers=workers, pin_memory=self._on_gpu())

    def val_dataloader(self) -> ResumableLoader | list[Any]:
        """The same held-out superpatches every time, each once, shared out to the ranks."""
        dataset = self.validation_dataset()
        if dataset is None:
            return []
        assert dataset.count is not None
        trainer = self._trainer()
        order = OnePass(dataset.count, self.job.train.batch, trainer.global_rank, trainer.world_size)
        return ResumableLoader(dataset, order)

    def validation_dataset(self) -> SuperpatchDataset | None:
        """The grid's held-out superpatches in a fixed, mixed order; None where nothing is held out."""
        if not self.validation:
            return None
        plan = GridPlan(self.validation, seed=0)
        count = min(len(plan), self.job.monitor.validation_superpatches)
        return SuperpatchDataset(self.job.store, plan, self.job.model.grid.superpatch, count)

    def _trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise RuntimeError("loaders are made by a Trainer")
        return self.trainer

    def _on_gpu(self) -> bool:
        return self.efficiency.accelerator == "gpu"


def _validation_regions(job: Job) -> tuple[Region, ...]:
    if not job.monitor.validate_every:
        return ()
    try:
        return regions_of(job.store, job.data, job.model.grid.superpatch, "val")
    except EmptySplitError:  # a store may be too small to spare any
        return ()


def train(job: Job, console: Console) -> Literal["finished", "interrupted"]:
    """Trains from the run's last checkpoint, or from the start.

    Returns:
        Whether the run is finished, or was interrupted and can be resumed.

    Raises:
        TrainingError: A loss that is not finite.
        StoreError: Nothing to train on.
    """
    efficiency = prepare_process(job)
    data = PretrainData(job, efficiency)
    if job.monitor.validate_every and not data.validation:
        named = "; name a patient: --data.holdout.patients.overrides PATIENT val"
        hint = named if job.data.holdout.by == "patient" else ""
        console.print(
            f"no superpatch is held out for validation: no held-out score, no images, no checkpoint `best`{hint}"
        )
    module = PretrainModule(job.model, job.train, job.data.window, job.data.flip_axes, job.seed)
    if efficiency.recompute:
        recompute_blocks(job.model)
    if efficiency.compile:
        job.model.loss = torch.compile(job.model.loss, dynamic=False)  # type: ignore[method-assign]
    return fit(module, data, job, efficiency, [*_images(job, data), LiveProgress(console)])


def _images(job: Job, data: PretrainData) -> list[pl.Callback]:
    held_out = data.validation_dataset()
    if not job.monitor.image_every or held_out is None:
        return []
    return [Images(held_out[0], job.monitor.image_every)]


def prepare_process(job: AnyJob) -> EfficiencyConfig:
    """Seeds this process and gives it its threads; the means as they are resolved on this machine."""
    pl.seed_everything(job.seed, verbose=False)
    efficiency = resolve(job.efficiency)
    if efficiency.threads != "auto":
        torch.set_num_threads(efficiency.threads)
    return efficiency


def fit(
    module: Stepper,
    data: pl.LightningDataModule,
    job: AnyJob,
    efficiency: EfficiencyConfig,
    callbacks: Sequence[pl.Callback],
) -> Literal["finished", "interrupted"]:
    """Trains a module from the run's last checkpoint, or from the start; Ctrl-C saves one and stops."""
    checkpoints = job.run / "checkpoints"
    sweep(checkpoints)
    stop = GracefulStop()
    state = checkpoints / "last" / STATE
    always = [
        stop,
        Meter(job.monitor.log_every),
        Checkpoints(checkpoints, job.monitor.checkpoint_every, job.record, job.card),
    ]
    with _quiet():
        trainer = make_trainer(job, efficiency, [*always, *callbacks])
        trainer.fit(module, datamodule=data, ckpt_path=str(state) if state.is_file() else None, weights_only=True)
    return "interrupted" if stop.requested and trainer.global_step < job.train.steps else "finished"


def make_trainer(job: AnyJob, efficiency: EfficiencyConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    """A Lightning Trainer for the job. The run is one Lightning epoch, so a resumed run is always mid-epoch."""
    validates = bool(job.monitor.validate_every)
    return pl.Trainer(
        accelerator=efficiency.accelerator,
        devices=efficiency.devices,
        num_nodes=efficiency.nodes,
        **_strategy(efficiency),
        **_precision(efficiency),
        max_steps=job.train.steps,
        accumulate_grad_batches=job.train.accumulate,
        gradient_clip_val=job.train.clip_norm,
        val_check_interval=job.monitor.validate_every * job.train.accumulate if validates else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        logger=_loggers(job.run),
        callbacks=callbacks,
        log_every_n_steps=job.monitor.log_every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic="warn" if efficiency.accelerator == "cpu" else False,
        default_root_dir=job.run,
    )


def _strategy(efficiency: EfficiencyConfig) -> dict[str, Any]:
    """How the Trainer is told to train on several devices."""
    world = world_size(efficiency)
    if efficiency.strategy == "fsdp2":  # weights gathered in inference mode could not be trained with afterwards
        return {"strategy": FullySharded(world), "inference_mode": False}
    return {"strategy": "ddp" if efficiency.strategy == "auto" and world > 1 else efficiency.strategy}


def _precision(efficiency: EfficiencyConfig) -> dict[str, Any]:
    """How the Trainer is told the precision: given fp16 by name, it takes bf16 on a CPU; given the plugin, it obeys."""
    if efficiency.precision != "16-mixed":
        return {"precision": efficiency.precision}
    device = "cuda" if efficiency.accelerator == "gpu" else "cpu"
    return {"plugins": [MixedPrecision("16-mixed", device)]}


def _loggers(run: Path) -> list[Any]:
    return [CsvLog(run / "logs" / "metrics.csv"), TensorBoardLogger(str(run / "logs"), name="", version="tensorboard")]


class _quiet:  # noqa: N801 (reads as the statement it is)
    """Leaves the terminal to our own progress: Lightning's tips and device lines say nothing a user needs."""

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
