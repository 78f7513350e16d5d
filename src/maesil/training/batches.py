"""The batches of a training, of whatever task."""

from __future__ import annotations

from typing import Any, final

import pytorch_lightning as pl

from maesil.sampling.dataset import ResumableLoader, SuperpatchDataset
from maesil.sampling.labelled import LabelledDataset
from maesil.sampling.plan import OnePass, Order
from maesil.training.config import EfficiencyConfig, TrainConfig

Draws = SuperpatchDataset | LabelledDataset


@final
class Batches(pl.LightningDataModule):
    """Training batches of this rank from where the run is, and the same held-out superpatches every time.

    Args:
        training: Superpatches to train on.
        held_out: Superpatches to validate on, with a `count`; None: nothing is held out.
        train: Batch size and length.
        efficiency: Devices, resolved.
    """

    def __init__(
        self, training: Draws, held_out: Draws | None, train: TrainConfig, efficiency: EfficiencyConfig
    ) -> None:
        super().__init__()
        self.training, self.held_out = training, held_out
        self.config, self.efficiency = train, efficiency

    def train_dataloader(self) -> ResumableLoader:
        """Draws of this rank from the run's current step to its last."""
        trainer, config = self._trainer(), self.config
        start, stop = trainer.global_step * config.accumulate, config.steps * config.accumulate
        order = Order(config.batch, trainer.global_rank, trainer.world_size, start, stop)
        return self._loader(self.training, order)

    def val_dataloader(self) -> ResumableLoader | list[Any]:
        """Held-out superpatches, each once, shared out to the ranks."""
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
            raise RuntimeError("loaders are made by a Trainer")
        return self.trainer
