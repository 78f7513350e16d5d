"""What every trained module does the same way: optimiser, clipping, moving batches, watching the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from maesil.errors import ConfigError, TrainingError
from maesil.sampling.plan import Place
from maesil.training.config import TrainConfig
from maesil.training.optimizer import make_optimizer, make_schedule
from maesil.training.sharding import FullySharded, whole


class Stepper(pl.LightningModule, ABC):
    """Trains a network on batches of a store.

    Batches are named tuples with tensors, `numbers` (the draws) and `places`. Subclasses are final; they give the loss
    of a batch and log `score` in `validation_step`: the higher, the better.

    Args:
        model: The network.
        config: Optimiser and length.
    """

    score: str

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self._unchecked: tuple[int, Tensor, list[Place]] | None = None

    def configure_model(self) -> None:
        """Shares the weights out to the ranks, if the strategy is to."""
        if isinstance(self.trainer.strategy, FullySharded):
            self.shard(self.trainer.strategy.device_mesh["data_parallel"])

    def shard(self, mesh: DeviceMesh) -> None:
        """Shares the weights out to the ranks of a mesh.

        Raises:
            ConfigError: Unless a subclass says how.
        """
        raise ConfigError("FSDP2 is for pre-training alone", fix="--efficiency.strategy ddp")

    @abstractmethod
    def batch_loss(self, batch: Any) -> Float[Tensor, ""]:
        """The loss of one micro-batch."""

    def measures(self) -> Mapping[str, Tensor]:
        """What the last loss was made of, for the logs."""
        return {}

    def training_step(self, batch: Any, batch_index: int) -> Float[Tensor, ""]:
        """One micro-batch."""
        self.check_finite()
        loss = self.batch_loss(batch)
        self._unchecked = (self.global_step, loss.detach(), batch.places)
        return loss

    def make_optimizer(self, fused: bool) -> Optimizer:
        """The optimiser that the configuration names."""
        return make_optimizer(self.model, self.config, self.trainer.world_size, fused=fused)

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, per step."""
        scaled = self.trainer.precision == "16-mixed"  # gradients must be unscaled before they are clipped
        optimizer = self.make_optimizer(fused=not scaled)
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

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves the voxels, as they come from disk; the rest stays."""
        moved: dict[str, Tensor] = {
            name: value.to(device, non_blocking=True)
            for name, value in _fields(batch).items()
            if isinstance(value, Tensor)
        }
        return batch._replace(**moved)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counts what is done in this run's micro-batches: the run may have been on another number of devices."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = checkpoint["global_step"] * self.config.accumulate
        for counts in (progress["total"], progress["current"]):
            counts.update(dict.fromkeys(counts, done))

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

    def check_weights(self) -> None:
        """Stops if a weight is not finite: gradients can be so where the loss still is a number.

        Raises:
            TrainingError: With the step and the first such weight.
        """
        for name, weight in self.model.state_dict().items():  # averages of a codebook too, which no gradient moves
            if not bool(whole(torch.isfinite(weight).all())):
                raise TrainingError(
                    f"the weight '{name}' is not finite after step {self.global_step}",
                    fix="the last checkpoint is untouched; lower the learning rate, or clip gradients",
                )


def _fields(batch: Any) -> dict[str, Any]:
    assert isinstance(batch, tuple)
    named: dict[str, Any] = batch._asdict()  # type: ignore[attr-defined]
    return named
