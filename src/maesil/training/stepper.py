"""Base class of all training modules: optimiser, clipping, moving batches to the device, checking the loss."""

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
from maesil.models.contract import LastStage
from maesil.sampling.plan import Place
from maesil.training.config import TrainConfig
from maesil.training.optimizer import Lengthened, make_optimizer, make_schedule
from maesil.training.sharding import FullySharded, whole


class Stepper(pl.LightningModule, ABC):
    """Trains a network on batches from a store.

    Batches are named tuples with tensors, `numbers` (the draws) and `places`. Subclasses are final. They compute the
    loss of a batch, and log the metric that `score` names in `validation_step`; higher is better.

    Args:
        model: Network to train.
        config: Settings of the optimiser and number of steps.
    """

    score: str
    lengthened: Lengthened = ()
    """Steps at which the run was made longer, as in `make_schedule`."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self._unchecked: tuple[int, Tensor, list[Place]] | None = None

    def configure_model(self) -> None:
        """Shards the weights over the ranks if the strategy is FSDP2."""
        if isinstance(self.trainer.strategy, FullySharded):
            self.shard(self.trainer.strategy.device_mesh["data_parallel"])

    def shard(self, mesh: DeviceMesh) -> None:
        """Shards the weights over the ranks of a mesh.

        Raises:
            ConfigError: The subclass does not override this method.
        """
        raise ConfigError("FSDP2 works for pre-training only", fix="use --efficiency.strategy ddp")

    @abstractmethod
    def batch_loss(self, batch: Any) -> Float[Tensor, ""]:
        """Computes the loss of one micro-batch."""

    def measures(self) -> Mapping[str, Tensor]:
        """Returns the parts of the last loss, for the logs."""
        return {}

    @property
    def last_stage(self) -> LastStage | None:
        """The end of the training in which only one part of the network learns; None if all of it always learns."""
        return None

    def training_step(self, batch: Any, batch_index: int) -> Float[Tensor, ""]:
        """Checks the previous loss and computes the loss of one micro-batch."""
        self.check_finite()
        loss = self.batch_loss(batch)
        self._unchecked = (self.global_step, loss.detach(), batch.places)
        return loss

    def make_optimizer(self, fused: bool) -> Optimizer:
        """Makes the optimiser that the configuration names."""
        return make_optimizer(self.model, self.config, self.trainer.world_size, fused=fused, last=self.last_stage)

    def configure_optimizers(self) -> Any:
        """Makes the optimiser and its schedule, which advances per step."""
        scaled = self.trainer.precision == "16-mixed"  # gradients must be unscaled before they are clipped
        optimizer = self.make_optimizer(fused=not scaled)
        shares = make_schedule(optimizer, self.config, self.last_stage, self.lengthened)
        schedule = {"scheduler": shares, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips by norm. Lightning would refuse a fused optimiser, though only fp16's scaled gradients require that."""
        if not optimizer.defaults.get("fused"):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves the tensors, in the data type they have on disk; other fields stay."""
        moved: dict[str, Tensor] = {
            name: value.to(device, non_blocking=True)
            for name, value in _fields(batch).items()
            if isinstance(value, Tensor)
        }
        return batch._replace(**moved)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Converts the progress into this run's micro-batches, as the checkpoint may be from other devices."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done = checkpoint["global_step"] * self.config.accumulate
        for counts in (progress["total"], progress["current"]):
            counts.update(dict.fromkeys(counts, done))

    def check_finite(self) -> None:
        """Stops if the previous micro-batch's loss was not finite.

        The check comes one step late, so that the host never waits for the device's latest work.

        Raises:
            TrainingError: The loss was not finite; the message gives the step and the superpatches.
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
                fix="lower the learning rate or inspect these superpatches, then resume: the last checkpoint is intact",
            )

    def check_weights(self) -> None:
        """Stops if a weight is not finite. Gradients can overflow while the loss is still finite.

        Raises:
            TrainingError: A weight is not finite; the message gives the step and the first such weight.
        """
        for name, weight in self.model.state_dict().items():  # includes a codebook's averages, which have no gradient
            if not bool(whole(torch.isfinite(weight).all())):
                raise TrainingError(
                    f"the weight '{name}' is not finite after step {self.global_step}",
                    fix="lower the learning rate or clip gradients, then resume: the last checkpoint is intact",
                )


def _fields(batch: Any) -> dict[str, Any]:
    assert isinstance(batch, tuple)
    named: dict[str, Any] = batch._asdict()  # type: ignore[attr-defined]
    return named
