"""A pretrainer as a LightningModule: what one step does."""

from __future__ import annotations

from typing import Any, final

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from maesil.ct.window import Window
from maesil.errors import TrainingError
from maesil.models.contract import Pretrainer
from maesil.sampling.augment import draw_generator, random_flips
from maesil.sampling.dataset import Superpatches
from maesil.sampling.plan import Place
from maesil.training.config import TrainConfig
from maesil.training.optimizer import make_optimizer, make_schedule

VALIDATION_SEED = 20_260_401
"""Of the masks on validation superpatches: the same in every run, so that runs can be compared."""


@final
class PretrainModule(pl.LightningModule):
    """Trains a pretrainer on superpatches.

    Masks and flips of a step are drawn on the device from (seed, first draw number), which is unique per step and rank.

    Args:
        model: The pretrainer.
        config: Optimiser and length.
        window: HU window mapped to [0, 1].
        flip_axes: Axes flipped at random.
        seed: The run's seed.
    """

    def __init__(
        self, model: Pretrainer, config: TrainConfig, window: Window, flip_axes: tuple[int, ...], seed: int
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.window = window
        self.flip_axes = flip_axes
        self.seed = seed
        self._unchecked: tuple[int, Tensor, list[Place]] | None = None

    def training_step(self, batch: Superpatches, batch_index: int) -> Float[Tensor, ""]:
        """One micro-batch: window, flip, mask, loss."""
        self.check_finite()
        generator = draw_generator(self.device, self.seed, batch.numbers[0])
        superpatch = random_flips(self._windowed(batch), self.flip_axes, generator)
        mask = self.model.draw_mask(len(superpatch), generator)
        self.model.begin_step(self.global_step / self.config.steps, generator)
        loss = self.model.loss(superpatch, mask)
        self._unchecked = (self.global_step, loss.detach(), batch.places)
        return loss

    def validation_step(self, batch: Superpatches, batch_index: int) -> None:
        """Masked PSNR in dB on held-out superpatches, every one with its own fixed mask."""
        superpatch = self._windowed(batch)
        masks = [
            self.model.draw_mask(1, draw_generator(self.device, VALIDATION_SEED, number)) for number in batch.numbers
        ]
        rebuilt = self.model.reconstruct(superpatch, torch.cat(masks))
        error = (rebuilt.volume.clamp(0, 1) - superpatch).square()
        mse = (error * rebuilt.mask).sum(dim=(1, 2, 3, 4)) / rebuilt.mask.sum(dim=(1, 2, 3, 4))
        psnr = -10.0 * mse.clamp_min(1e-10).log10()
        self.log("val_psnr_masked", psnr.mean(), batch_size=len(psnr), sync_dist=True, on_epoch=True, logger=False)

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule, per step."""
        scaled = self.trainer.precision == "16-mixed"  # gradients must be unscaled before they are clipped
        optimizer = make_optimizer(self.model, self.config, self.trainer.world_size, fused=not scaled)
        schedule = {"scheduler": make_schedule(optimizer, self.config), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips by norm. Lightning refuses a fused optimiser here, for the sake of fp16's scaled gradients alone."""
        if not optimizer.defaults.get("fused"):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def transfer_batch_to_device(self, batch: Superpatches, device: torch.device, dataloader_idx: int) -> Superpatches:
        """Moves the voxels, two bytes each; the rest stays."""
        return batch._replace(hu=batch.hu.to(device, non_blocking=True))

    def check_finite(self) -> None:
        """Stops if the previous micro-batch's loss was not finite.

        Looked at one step late, so that the host never waits for the device's latest work.

        Raises:
            TrainingError: With the step and the superpatches that caused it.
        """
        if self._unchecked is None:
            return
        step, loss, places = self._unchecked
        self._unchecked = None
        if not bool(torch.isfinite(loss)):
            listed = ", ".join(f"{place.scan_id}@{place.origin}" for place in places)
            raise TrainingError(
                f"the loss became {loss.item()} in step {step}",
                where=f"superpatches {listed}",
                fix="the last checkpoint is untouched; lower the learning rate, or look at these superpatches",
            )

    def _windowed(self, batch: Superpatches) -> Float[Tensor, "b 1 d h w"]:
        return self.window.normalize(batch.hu.to(torch.float32))
