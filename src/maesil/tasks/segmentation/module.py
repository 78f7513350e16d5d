"""A segmentation network as a LightningModule, and its batches."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from maesil.sampling.augment import draw_generators, random_flips
from maesil.sampling.dataset import inside_voxels
from maesil.sampling.labelled import LabelledSuperpatches
from maesil.tasks.segmentation.augmenter import Augmenter
from maesil.tasks.segmentation.network import Segmenter
from maesil.training.config import TrainConfig
from maesil.training.optimizer import layered_adamw
from maesil.training.stepper import Stepper


@final
class SegmentationModule(Stepper):
    """Trains a segmenter on labelled superpatches.

    Args:
        model: The network.
        config: Optimiser settings and length; AdamW, with layer-wise learning-rate decay in the encoder.
        flip_axes: Axes flipped at random; axis 2 is not allowed with left and right structures.
        augmenter: Other random changes of superpatches.
        seed: The run's seed.
    """

    score = "val_dice"
    model: Segmenter

    def __init__(
        self, model: Segmenter, config: TrainConfig, flip_axes: tuple[int, ...], augmenter: Augmenter, seed: int
    ) -> None:
        super().__init__(model, config)
        self.flip_axes = flip_axes
        self.augmenter = augmenter
        self.seed = seed
        self._overlap: Tensor | None = None

    def batch_loss(self, batch: LabelledSuperpatches) -> Float[Tensor, ""]:
        """Applies the window, flips and other changes, and returns the loss."""
        generators = draw_generators(self.device, self.seed, batch.numbers)
        volume = self.model.backbone.from_hu(batch.hu)
        both = random_flips(torch.cat([volume, batch.labels.to(volume.dtype)], dim=1), self.flip_axes, generators)
        changed, labels = self.augmenter(both[:, :1], both[:, 1:].long(), generators)
        return self.model.loss(changed, labels, batch.marked)

    def validation_step(self, batch: LabelledSuperpatches, batch_index: int) -> None:
        """Adds up the overlap per class, inside the scans; Dice is computed over all held-out superpatches together.

        A class does not count where it was not marked.
        """
        predicted = self.model(self.model.backbone.from_hu(batch.hu)).argmax(dim=1, keepdim=True)
        inside = inside_voxels(batch.inside, self.model.backbone.config.superpatch)
        predicted, labels = predicted.where(inside, 0), batch.labels.where(inside, 0)
        marked = torch.tensor(batch.marked, device=labels.device)[..., None, None, None, None]
        counts = []
        for number in range(1, self.model.classes + 1):
            ours, theirs = (predicted == number) & marked[:, number - 1], labels == number
            counts.append(torch.stack([(ours & theirs).sum(), ours.sum() + theirs.sum()]))
        overlap = torch.stack(counts).double()
        self._overlap = overlap if self._overlap is None else self._overlap + overlap

    def on_validation_epoch_end(self) -> None:
        """Logs the mean Dice of the classes that occur."""
        if self._overlap is None:
            return
        overlap = self.trainer.strategy.reduce(self._overlap, reduce_op="sum")
        assert isinstance(overlap, Tensor)
        occurs = overlap[:, 1] > 0
        dice = (2 * overlap[occurs, 0] / overlap[occurs, 1]).mean() if occurs.any() else torch.tensor(0.0)
        self._overlap = None
        self.log(self.score, dice.float(), on_epoch=True, logger=False)

    def make_optimizer(self, fused: bool) -> Optimizer:
        """AdamW; each encoder block learns more slowly than the one above it."""
        scales = self.model.parameter_scales()
        return layered_adamw(self.model, self.config, self.trainer.world_size, scales, fused=fused)
