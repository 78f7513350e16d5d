"""A LightningModule that trains a pretrainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from maesil.ct.window import Window
from maesil.models.contract import LastStage, Pretrainer
from maesil.sampling.augment import draw_generators, random_flips
from maesil.sampling.dataset import Superpatches, inside_voxels
from maesil.training.config import TrainConfig
from maesil.training.optimizer import Lengthened
from maesil.training.sharding import shard
from maesil.training.stepper import Stepper

VALIDATION_SEED = 20_260_401
"""Seed of the masks on validation superpatches, the same in every run, so that runs can be compared."""


@final
class PretrainModule(Stepper):
    """Trains a pretrainer on superpatches.

    Each superpatch has its own random stream, seeded by the run's seed and the draw number, so masks and flips do not
    depend on the batch or the device that a superpatch is in.

    Args:
        model: Pretrainer to train.
        config: Settings of the optimiser and number of steps.
        window: HU window that is mapped to [0, 1].
        flip_axes: Axes that are flipped at random.
        seed: Seed of the run.
        lengthened: Steps at which the run was made longer, as in `make_schedule`.
    """

    score = "val_psnr_masked"
    model: Pretrainer

    def __init__(
        self,
        model: Pretrainer,
        config: TrainConfig,
        window: Window,
        flip_axes: tuple[int, ...],
        seed: int,
        lengthened: Lengthened = (),
    ) -> None:
        super().__init__(model, config)
        self.window = window
        self.flip_axes = flip_axes
        self.seed = seed
        self.lengthened = lengthened
        self._tally: Tensor | None = None

    def shard(self, mesh: DeviceMesh) -> None:
        """Shards each block separately, and the other weights together."""
        shard(self.model, mesh)

    def batch_loss(self, batch: Superpatches) -> Float[Tensor, ""]:
        """Windows, flips and masks superpatches, and computes the loss of the run's step."""
        return self.loss_at(batch, self.global_step)

    def loss_at(self, batch: Superpatches, step: int) -> Float[Tensor, ""]:
        """The loss of a micro-batch at any step of the run, whose last ones may train one part alone."""
        generators = draw_generators(self.device, self.seed, batch.numbers)
        superpatch = random_flips(self._windowed(batch), self.flip_axes, generators)
        mask = self._masks(generators)
        stage, steps = self.model.last_stage, self.config.steps
        before = steps if stage is None else stage.first_step(steps)
        if step >= before:
            return self.model.last_loss(superpatch, mask)
        return self.model.loss(superpatch, mask, generators, step / before)

    @property
    def last_stage(self) -> LastStage | None:
        """The end of the training in which only one part of the model learns."""
        return self.model.last_stage

    def measures(self) -> Mapping[str, Tensor]:
        """Returns the parts of the last loss."""
        return self.model.measures()

    def validation_step(self, batch: Superpatches, batch_index: int) -> None:
        """Computes masked PSNR in dB on held-out superpatches, each with a fixed mask; padding does not count."""
        superpatch = self._windowed(batch)
        mask = self._masks(draw_generators(self.device, VALIDATION_SEED, batch.numbers))
        rebuilt = self.model.reconstruct(superpatch, mask)
        error = (rebuilt.volume.clamp(0, 1) - superpatch).square()
        counted = rebuilt.mask & inside_voxels(batch.inside, self.model.grid.superpatch)
        voxels = counted.sum(dim=(1, 2, 3, 4))
        mse = (error * counted).sum(dim=(1, 2, 3, 4)) / voxels.clamp_min(1)
        psnr = -10.0 * mse.clamp_min(1e-10).log10()
        scored = voxels > 0
        tally = torch.stack([(psnr * scored).sum(), scored.sum()]).float()
        self._tally = tally if self._tally is None else self._tally + tally

    def on_validation_epoch_end(self) -> None:
        """Logs the mean over the superpatches of all ranks; NaN where they contain only padding."""
        if self._tally is None:
            return
        tally = self.trainer.strategy.reduce(self._tally, reduce_op="sum")
        assert isinstance(tally, Tensor)
        self._tally = None
        self.log(self.score, tally[0] / tally[1], on_epoch=True, logger=False)

    def _masks(self, generators: Sequence[torch.Generator]) -> Bool[Tensor, "b n"]:
        return torch.cat([self.model.draw_mask(1, generator) for generator in generators])

    def _windowed(self, batch: Superpatches) -> Float[Tensor, "b 1 d h w"]:
        return self.window.normalize(batch.hu.to(torch.float32))
