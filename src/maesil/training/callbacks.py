"""Callbacks of the Trainer: checkpoints, a clean stop, logs of speed and loss, images."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from maesil.errors import CheckpointError
from maesil.files import write_text
from maesil.memory import GIB, peak_resident_gib
from maesil.sampling.augment import draw_generator
from maesil.sampling.dataset import Superpatches
from maesil.training.checkpoint import publish, write_model
from maesil.training.checkpoint_folder import CARD, STATE, read_config
from maesil.training.module import VALIDATION_SEED, PretrainModule
from maesil.training.sharding import gathered
from maesil.training.stepper import Stepper

BEST = "best"
"""Name of the link to the weights with the best score."""
SCORE = "best_score"
"""Key of that score in their config.json."""
STOPPING = "stopping after this step; press Ctrl-C again to stop now"

ECHO_S = 2.0
"""Time after a stop signal in which another is taken for the same request: of a terminal, a parent and a scheduler."""

AGREE_EVERY = 8
"""Number of steps between the checks whether any rank has received a stop signal."""


def steps_done(trainer: pl.Trainer, batch_index: int) -> bool:
    """Whether the optimiser stepped after this micro-batch, instead of only accumulating gradients."""
    return (batch_index + 1) % int(trainer.accumulate_grad_batches) == 0


def logged_step(trainer: pl.Trainer) -> int:
    """The last step that has a row in the logs, whose loss and speed are the latest metrics."""
    row = int(trainer.log_every_n_steps)  # type: ignore[attr-defined]  # Lightning sets it without declaring it
    return trainer.global_step // row * row


def learning_alone(trainer: pl.Trainer, step: int) -> str:
    """Name of the part that alone learnt in a step; empty if that was the whole network."""
    stage = getattr(trainer.lightning_module, "last_stage", None)
    return stage.name if stage is not None and step > stage.first_step(int(trainer.max_steps)) else ""


@final
class Checkpoints(pl.Callback):
    """Writes ``checkpoints/last`` at intervals and at the end, and ``checkpoints/best`` when validation improves.

    Args:
        folder: The run's ``checkpoints`` folder.
        every: Number of steps between checkpoints.
        config: Content of each checkpoint's config.json.
        card: Function that makes card.md from the step and the metrics.
    """

    def __init__(
        self, folder: Path, every: int, config: Mapping[str, Any], card: Callable[[int, Mapping[str, float]], str]
    ) -> None:
        self.folder = folder
        self.every = every
        self.config = config
        self.card = card
        self.best: float | None = None
        self._scored = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves a checkpoint after every `every` optimiser steps, after the last step, and before a requested stop."""
        step = trainer.global_step
        due = step % self.every == 0 or step == trainer.max_steps or trainer.should_stop
        if due and steps_done(trainer, batch_idx):
            self._save_last(trainer, pl_module)

    def _save_last(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Stepper)
        module.check_finite()
        module.check_weights()
        folder = self._folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(folder / STATE)  # collective: every rank takes part
        self._publish(folder, "last", module, trainer)
        trainer.strategy.barrier("checkpoint")  # a rank that exits earlier may take down rank 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the score to the card of this step, and saves the weights if their score is the best so far."""
        assert isinstance(pl_module, Stepper)
        score = trainer.callback_metrics.get(pl_module.score)
        if trainer.sanity_checking or score is None:
            return
        self._scored = trainer.global_step
        self._renew_card(trainer, pl_module)
        if self._improves(float(score)):
            self.best = float(score)
            self._publish(self.folder / f"{BEST}-{trainer.global_step:07d}", BEST, pl_module, trainer)

    def _renew_card(self, trainer: pl.Trainer, module: Stepper) -> None:
        """Writes the card of this step's checkpoint again: it was saved before the validation."""
        folder = self._folder(trainer)
        if trainer.is_global_zero and (folder / CARD).is_file():
            write_text(folder / CARD, self.card(trainer.global_step, self._measured(trainer, module)))

    def _folder(self, trainer: pl.Trainer) -> Path:
        return self.folder / f"step-{trainer.global_step:07d}"

    def _measured(self, trainer: pl.Trainer, module: Stepper) -> dict[str, float]:
        """The latest metrics; names of those from an earlier step are followed by that step."""
        step, logged = trainer.global_step, logged_step(trainer)
        part = learning_alone(trainer, logged)
        found = {}
        for metric, value in trainer.callback_metrics.items():
            at = self._scored if metric == module.score else logged
            name = f"loss of the {part}" if metric == "loss" and part else metric
            found[name if at == step else f"{name} (step {at})"] = float(value)
        return found

    def _improves(self, score: float) -> bool:
        """Whether a score is finite and the best so far. A NaN stored as the best score could never be improved on."""
        return math.isfinite(score) and (self.best is None or score > self.best)

    def _publish(self, folder: Path, link: str, module: Stepper, trainer: pl.Trainer) -> None:
        weights = gathered(module.model.state_dict(), keep=trainer.is_global_zero)  # also collective
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        record = {**self.config, "step": step, **({SCORE: self.best} if link == BEST else {})}
        write_model(folder, weights, record, self.card(step, self._measured(trainer, module)))
        publish(folder, self.folder / link)

    def state_dict(self) -> dict[str, Any]:
        """Returns the best score so far, for a resumed run."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best score: that of `best`, too, as a step is saved before it is validated."""
        self.best = state_dict["best"]
        with suppress(CheckpointError):  # nothing was validated yet
            score = read_config(self.folder / BEST).get(SCORE)
            if score is not None and self._improves(score):
                self.best = score


@final
class GracefulStop(pl.Callback):
    """Stops training after the current step on the first Ctrl-C or SIGTERM, and immediately on the second.

    A checkpoint appears whole or not at all, so the second signal loses no more than the steps since the last one.
    Before the first step is done there is nothing to lose, so one signal is enough then: the step may take minutes.

    Args:
        say: Function that prints a line at once, as a step may take minutes.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.requested = False
        self.say = say
        self._trainer: pl.Trainer | None = None
        self._began, self._requested_at = 0, 0.0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Installs the signal handlers."""
        self._trainer, self._began = trainer, trainer.global_step
        self._previous = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}

    def _request(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested and now - self._requested_at < ECHO_S:
            return
        again, self.requested, self._requested_at = self.requested, True, now
        if again or self._nothing_done():
            raise KeyboardInterrupt
        with suppress(RuntimeError):  # the signal came while a line was being printed
            self.say(STOPPING)

    def _nothing_done(self) -> bool:
        """Whether no step would be lost, and no other rank waits for this one."""
        trainer = self._trainer
        return trainer is not None and trainer.world_size == 1 and trainer.global_step == self._began

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Marks this step as the last one; the checkpoint callback comes later in the list, and saves it.

        Lightning validates before it stops, which would take time and leave a score that an uninterrupted run lacks.
        """
        if steps_done(trainer, batch_idx) and self._is_agreed(trainer):
            trainer.should_stop = True
            every = trainer.val_check_interval
            last = trainer.global_step == trainer.max_steps  # the run is finished, and can't be validated later
            if not last and every and (trainer.fit_loop.epoch_loop.total_batch_idx + 1) % every:
                trainer.limit_val_batches = 0

    def _is_agreed(self, trainer: pl.Trainer) -> bool:
        """Whether to stop after this step. Ranks get a signal at different steps, but must stop at the same one."""
        if trainer.world_size > 1:
            if trainer.global_step % AGREE_EVERY:  # the check is a collective operation
                return False
            self.requested = bool(trainer.strategy.reduce_boolean_decision(self.requested, all=False))
        return self.requested

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restores Lightning's handlers, so that Lightning can restore the original ones when it exits."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restores the handlers when training fails, too."""
        self.on_train_end(trainer, pl_module)


@final
class LastScore(pl.Callback):
    """Has the last step validated, too, whatever the interval: Lightning validates before it stops."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Asks for the stop that comes anyway."""
        if trainer.global_step == trainer.max_steps and steps_done(trainer, batch_idx):
            trainer.should_stop = True


@final
class LastWord(pl.Callback):
    """Lets the process that started the other ranks say why training failed.

    Lightning's launcher kills it a few seconds after another rank has ended with an error. If all ranks stop for the
    same reason, a slow first rank would be killed before it has printed that reason.
    """

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Takes the other ranks from the launcher's watch; after Ctrl-C it ends them itself."""
        if not isinstance(exception, KeyboardInterrupt):
            list.clear(getattr(trainer.strategy.launcher, "procs", []))


@final
class Meter(pl.Callback):
    """Logs loss, learning rate, superpatches/s, the share of time spent waiting for data, and peak memory.

    It must precede slow callbacks in the Trainer's list, or their time would be counted.

    Args:
        every: Number of steps between rows.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._losses: list[Tensor] = []
        self._started = self._busy_s = self._waited_before_s = 0.0
        self._superpatches = 0

    def _reset(self, trainer: pl.Trainer) -> None:
        self._losses.clear()
        self._busy_s = 0.0
        self._waited_before_s = _waited_s(trainer)
        self._superpatches = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the held-out score."""
        assert isinstance(pl_module, Stepper)
        score = trainer.callback_metrics.get(pl_module.score)
        if score is not None:
            for logger in trainer.loggers:
                logger.log_metrics({pl_module.score: float(score)}, step=trainer.global_step)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts the clock when the batch has arrived."""
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs a row every `every` steps. The time of other callbacks, such as checkpoints, is not counted."""
        self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)  # undoes Lightning's division
        self._superpatches += len(batch.hu) * trainer.world_size
        due = steps_done(trainer, batch_idx) and trainer.global_step % self.every == 0
        loss = float(torch.stack(self._losses).mean()) if due else 0.0  # waits for the device, for an exact time
        self._busy_s += time.perf_counter() - self._started
        if due:
            assert isinstance(pl_module, Stepper)
            self._log(trainer, loss, {name: float(value) for name, value in pl_module.measures().items()})
            self._reset(trainer)

    def _log(self, trainer: pl.Trainer, loss: float, measures: Mapping[str, float]) -> None:
        waited_s = _waited_s(trainer) - self._waited_before_s
        elapsed_s = self._busy_s + waited_s
        row = {
            "loss": _of_all_ranks(trainer, loss),
            "learning_rate": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            "superpatches_per_s": self._superpatches / elapsed_s,
            "data_wait_share": waited_s / elapsed_s,
            "memory_gib": peak_memory_gib(trainer.strategy.root_device),
            **measures,
        }
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in row.items()})
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step)


def _of_all_ranks(trainer: pl.Trainer, loss: float) -> float:
    """Averages the loss over all ranks: the loss of the global batch, whatever the number of devices."""
    return float(trainer.strategy.reduce(torch.tensor(loss, device=trainer.strategy.root_device), reduce_op="mean"))


def _waited_s(trainer: pl.Trainer) -> float:
    """Total seconds spent waiting for the training loader."""
    return float(getattr(trainer.train_dataloader, "waited_s", 0.0))


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory of PyTorch's allocator on a GPU, or peak resident memory of this process on a CPU."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / GIB
    return peak_resident_gib()


@final
class Images(pl.Callback):
    """Adds an axial slice of a held-out superpatch to TensorBoard: original, masked input, reconstruction, error.

    Args:
        superpatches: Batch whose first superpatch is shown.
        every: Number of steps between images.
    """

    def __init__(self, superpatches: Superpatches, every: int) -> None:
        self.superpatches = superpatches
        self.every = every

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the image every `every` steps and after the last step."""
        step = trainer.global_step
        due = steps_done(trainer, batch_idx) and (step % self.every == 0 or step == trainer.max_steps)
        if due:
            assert isinstance(pl_module, PretrainModule)
            panel = self._panel(pl_module, trainer)  # on every rank, as each may hold only a shard of the weights
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):  # writes on the first rank only
                    logger.experiment.add_image("held-out superpatch", panel, step)

    @torch.no_grad()
    def _panel(self, module: PretrainModule, trainer: pl.Trainer) -> Tensor:
        hu = self.superpatches.hu[:1].to(module.device)
        truth = module.window.normalize(hu.float())
        mask = module.model.draw_mask(1, draw_generator(module.device, VALIDATION_SEED, 0))
        with trainer.precision_plugin.forward_context():
            rebuilt = module.model.reconstruct(truth, mask)
        volume = rebuilt.volume.clamp(0, 1)
        shown = (truth, truth.masked_fill(rebuilt.mask, 0.5), volume, (volume - truth).abs())
        seen_planes = (~rebuilt.mask).flatten(3).any(-1)[0, 0].nonzero().flatten()
        plane = int(seen_planes[len(seen_planes) // 2])  # not in the masked block: shows both kinds of token
        return torch.cat([image[0, :, plane] for image in shown], dim=-1).float().cpu()
