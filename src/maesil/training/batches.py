"""The data module of every training run, whatever its task."""

from __future__ import annotations

from typing import Any, final

import pytorch_lightning as pl

from maesil.sampling.dataset import Draws, ResumableLoader
from maesil.sampling.plan import OnePass, Order
from maesil.training.config import EfficiencyConfig, TrainConfig


@final
class Batches(pl.LightningDataModule):
    """Loads this rank's training batches from the run's current step on, and the same held-out superpatches each time.

    Args:
        training: Superpatches to train on.
        held_out: Superpatches to validate on, with a `count`; None if nothing is held out.
        train: Batch size and number of steps.
        efficiency: Devices, without "auto".
    """

    def __init__(
        self, training: Draws, held_out: Draws | None, train: TrainConfig, efficiency: EfficiencyConfig
    ) -> None:
        super().__init__()
        self.training, self.held_out = training, held_out
        self.config, self.efficiency = train, efficiency

    def train_dataloader(self) -> ResumableLoader:
        """Returns a loader of this rank's draws, from the run's current step to its last."""
        trainer, config = self._trainer(), self.config
        start, stop = trainer.global_step * config.accumulate, config.steps * config.accumulate
        order = Order(config.batch, trainer.global_rank, trainer.world_size, start, stop)
        return self._loader(self.training, order)

    def val_dataloader(self) -> ResumableLoader | list[Any]:
        """Returns a loader of the held-out superpatches, each once, divided among the ranks."""
        if self.held_out is None:
            return []
        assert self.held_out.count is not None
        trainer = self._trainer()
        order = OnePass(self.held_out.count, self.config.batch, trainer.global_rank, trainer.world_size)
        return self._loader(self.held_out, order)

    def _loader(self, draws: Draws, order: Order | OnePass) -> ResumableLoader:
        return ResumableLoader(draws, order, pin_memory=self.efficiency.accelerator == "gpu")

    def _trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise RuntimeError("a Trainer must own this data module before it can make loaders")
        return self.trainer
