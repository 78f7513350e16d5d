"""A classification network as a LightningModule: every superpatch of a scan is told the scan's class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.optim import Optimizer

from maesil.sampling.dataset import ResumableLoader, SuperpatchDataset, Superpatches
from maesil.sampling.plan import Order
from maesil.tasks.classification.network import Classifier
from maesil.tasks.segmentation.network import layer_scales
from maesil.training.config import EfficiencyConfig, TrainConfig
from maesil.training.optimizer import layered_adamw
from maesil.training.stepper import Stepper


@final
class ClassificationModule(Stepper):
    """Trains a classifier on superpatches.

    Args:
        model: The network.
        config: Optimiser and length; AdamW.
        truth: Scan to class.
        layer_decay: Learning rate of each encoder block, as a share of the block's above it.
    """

    score = "val_accuracy"
    model: Classifier

    def __init__(self, model: Classifier, config: TrainConfig, truth: Mapping[str, int], layer_decay: float) -> None:
        super().__init__(model, config)
        self.truth = dict(truth)
        self.layer_decay = layer_decay

    def batch_loss(self, batch: Superpatches) -> Float[Tensor, ""]:
        """Cross-entropy."""
        wanted = torch.tensor([self.truth[place.scan_id] for place in batch.places], device=self.device)
        logits = self.model(self.model.backbone.from_hu(batch.hu))
        return F.cross_entropy(logits.float(), wanted)

    def make_optimizer(self, fused: bool) -> Optimizer:
        """AdamW; each encoder block learns more slowly than the one above it."""
        scales = layer_scales(self.model, self.model.backbone.depth, self.layer_decay)
        return layered_adamw(self.model, self.config, self.trainer.world_size, scales, fused=fused)


class ClassificationData(LightningDataModule):
    """Training draws from where the run is.

    Args:
        training: The training superpatches.
        train: Batch and length.
        efficiency: Resolved.
    """

    def __init__(self, training: SuperpatchDataset, train: TrainConfig, efficiency: EfficiencyConfig) -> None:
        super().__init__()
        self.training, self.train_config, self.efficiency = training, train, efficiency

    def train_dataloader(self) -> ResumableLoader:
        """Draws of this rank from the run's current step to its last."""
        trainer: Any = self.trainer
        train = self.train_config
        start, stop = trainer.global_step * train.accumulate, train.steps * train.accumulate
        order = Order(train.batch, trainer.global_rank, trainer.world_size, start, stop)
        pinned = self.efficiency.accelerator == "gpu"
        return ResumableLoader(self.training, order, workers=int(self.efficiency.workers), pin_memory=pinned)
