"""A classification network as a LightningModule: the label of every superpatch is its scan's class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from maesil.sampling.dataset import Superpatches
from maesil.tasks.classification.network import Classifier
from maesil.tasks.segmentation.network import layer_scales
from maesil.training.config import TrainConfig
from maesil.training.optimizer import layered_adamw
from maesil.training.stepper import Stepper


@final
class ClassificationModule(Stepper):
    """Trains a classifier on superpatches.

    Args:
        model: The network.
        config: Optimiser settings and length; AdamW.
        truth: Scan to class.
        layer_decay: Ratio of each encoder block's learning rate to that of the block above.
    """

    score = "val_accuracy"
    model: Classifier

    def __init__(self, model: Classifier, config: TrainConfig, truth: Mapping[str, int], layer_decay: float) -> None:
        super().__init__(model, config)
        self.truth = dict(truth)
        self.layer_decay = layer_decay

    def batch_loss(self, batch: Superpatches) -> Float[Tensor, ""]:
        """Returns the cross-entropy."""
        wanted = torch.tensor([self.truth[place.scan_id] for place in batch.places], device=self.device)
        logits = self.model(self.model.backbone.from_hu(batch.hu))
        return F.cross_entropy(logits.float(), wanted)

    def make_optimizer(self, fused: bool) -> Optimizer:
        """AdamW; each encoder block learns more slowly than the one above it."""
        scales = layer_scales(self.model, self.model.backbone.depth, self.layer_decay)
        return layered_adamw(self.model, self.config, self.trainer.world_size, scales, fused=fused)
