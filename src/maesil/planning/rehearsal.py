"""A few real steps of a run, on its device and its superpatches: their time, their memory, and the speed of reading."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.optim import Optimizer

from maesil.config import RunConfig
from maesil.counts import count_of
from maesil.memory import GIB, peak_resident_gib, reset_peak
from maesil.planning.footprint import NUMBER_TYPES, Footprint
from maesil.progress import Progress
from maesil.runs.pretrain import make_module
from maesil.sampling.dataset import READS_IN_FLIGHT, ResumableLoader, SuperpatchDataset, Superpatches
from maesil.sampling.plan import Order
from maesil.training.config import EfficiencyConfig
from maesil.training.module import PretrainModule
from maesil.training.optimizer import make_optimizer

TIMED = 2
"""Number of timed steps of a batch size, after one that warms up."""
READ = 16
"""Number of superpatches that are read to measure the loader."""
SPARE = 0.9
"""Share of the free memory that a rehearsal may fill."""
WRITTEN_BYTES = 2**25
"""Number of bytes that are written to measure the disk."""


@dataclass(frozen=True)
class Steps:
    """Steps of one batch size.

    Attributes:
        batch: Number of superpatches of a step.
        seconds: Median time of a step.
        cpu_seconds: Median processor time of a step, over all threads.
        peak_gib: Peak memory: of this process on a CPU, of PyTorch on a GPU.
    """

    batch: int
    seconds: float
    cpu_seconds: float
    peak_gib: float


@dataclass(frozen=True)
class Rehearsal:
    """What was measured.

    Attributes:
        one: Steps of one superpatch.
        most: Steps of the largest batch that time and memory allowed; `one` itself if that is one.
        last: Steps of that batch in the run's last stage, in which one part learns alone; `most` itself without one.
        last_share: Share of the run's steps that are of the last stage; 0 without one.
        start_gib: Memory before the network was made: of this process on a CPU, 0 on a GPU.
        validation_s: Seconds to validate on a superpatch.
        read_per_s: Superpatches that are read per second, while nothing is computed.
        write_gib_per_s: Speed of the disk.
    """

    one: Steps
    most: Steps
    last: Steps
    last_share: float
    start_gib: float
    validation_s: float
    read_per_s: float
    write_gib_per_s: float

    def seconds(self, batch: int) -> float:
        """Mean time of a run's steps: beyond the largest measured batch, a superpatch takes as long as in it."""
        if batch <= self.most.batch:
            first = _between(self.one.batch, self.one.seconds, self.most.batch, self.most.seconds, batch)
        else:
            first = self.most.seconds * batch / self.most.batch
        return first * self._mean(self.most.seconds, self.last.seconds) / self.most.seconds

    def cpu_seconds(self, batch: int) -> float:
        """Mean processor time of a run's steps: a superpatch takes as long as in the largest measured batch."""
        return self._mean(self.most.cpu_seconds, self.last.cpu_seconds) * batch / self.most.batch

    def _mean(self, most: float, last: float) -> float:
        """Mean over the steps of a run."""
        return (1 - self.last_share) * most + self.last_share * last

    def gib(self, batch: int, by_formula: float) -> float:
        """Memory of the largest step with any batch.

        Args:
            batch: Number of superpatches.
            by_formula: GiB that a superpatch adds, where only one batch size was measured.
        """
        more = max(0.0, self.last.peak_gib - self.most.peak_gib) * batch / self.most.batch
        if self.most.batch == self.one.batch:
            return self.one.peak_gib + (batch - 1) * by_formula + more
        return _between(self.one.batch, self.one.peak_gib, self.most.batch, self.most.peak_gib, batch) + more


def _between(x: int, low: float, other: int, high: float, at: int) -> float:
    """The value at `at` on the line through two points; the first value if they are one."""
    return low if x == other else low + (high - low) * (at - x) / (other - x)


def rehearse(
    config: RunConfig,
    dataset: SuperpatchDataset,
    efficiency: EfficiencyConfig,
    need: Footprint,
    seconds: float,
    progress: Progress,
) -> Rehearsal:
    """Takes a few steps of a run, and leaves nothing behind.

    First steps of one superpatch, then of the run's batch, or of the largest one that fits the time and the memory, and
    then of the last stage, if the run has one.

    Args:
        config: Settings of the run.
        dataset: Training superpatches.
        efficiency: Device and precision, without "auto".
        need: Footprint of the network.
        seconds: About how long to measure.
        progress: Called before and after every superpatch that is read, and every step.
    """
    device = torch.device("cuda" if efficiency.accelerator == "gpu" else "cpu")
    start_gib = 0.0 if device.type == "cuda" else _peak_now(device)
    batch, read_per_s = _read(dataset, max(config.train.batch, READ), config.train.batch, progress)
    module = make_module(config, efficiency).to(device)
    optimizer = make_optimizer(module.model, config.train, 1, fused=efficiency.precision != "16-mixed")
    stepping = _Stepping(module, optimizer, config.train.clip_norm, efficiency.precision, progress)
    one = stepping.measure(batch, 1)
    largest = _largest(config.train.batch, one, need, device, seconds)
    most = one if largest == 1 else stepping.measure(batch, largest)
    stage, steps = module.last_stage, config.train.steps
    last = most if stage is None else stepping.measure(batch, largest, at=steps, what=f" of the {stage.name}")
    last_share = 0.0 if stage is None else 1 - stage.first_step(steps) / steps
    return Rehearsal(
        one, most, last, last_share, start_gib, stepping.validation_s(batch), read_per_s, _write_gib_per_s()
    )


def _largest(batch: int, one: Steps, need: Footprint, device: torch.device, seconds: float) -> int:
    """The run's batch, or the largest power of two below it, that fits the time and the memory; 1 if none does."""
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else psutil.virtual_memory().available
    sizes = [batch, *(2**power for power in range(batch.bit_length() - 1, 0, -1) if 2**power < batch)]
    fits = (
        size
        for size in sizes
        if size == 2 or (TIMED + 1) * size * one.seconds <= seconds
        if (size - 1) * need.activations <= SPARE * free
    )
    return next(fits, 1)


class _Stepping:
    """Training steps outside of the Trainer, with its autocast, clipping and optimiser."""

    def __init__(
        self,
        module: PretrainModule,
        optimizer: Optimizer,
        clip_norm: float | None,
        precision: str,
        progress: Progress,
    ) -> None:
        self._progress = progress
        self._module, self._optimizer, self._clip_norm = module, optimizer, clip_norm
        self._dtype = NUMBER_TYPES.get(precision)

    def measure(self, batch: Superpatches, size: int, *, at: int = 0, what: str = "") -> Steps:
        """Times steps of the first `size` superpatches of a batch.

        Args:
            batch: Superpatches on the computer.
            size: Number of them in a step.
            at: Step of the run that these are like.
            what: Words for the stage that they are of.
        """
        device = self._module.device
        part = _moved(batch, size, device)
        _reset_peak(device)
        name = f"steps{what} of {count_of(size, 'superpatch', 'superpatches')}"
        self._progress(0, TIMED + 1, name)
        timed = []
        for done in range(1, TIMED + 2):
            timed.append(self._timed(part, at))
            self._progress(done, TIMED + 1, name)
        del timed[0]  # it warms up
        wall, cpu = ([each[at] for each in timed] for at in (0, 1))
        return Steps(size, statistics.median(wall), statistics.median(cpu), _peak_now(device))

    def _timed(self, part: Superpatches, at: int) -> tuple[float, float]:
        began, worked = time.perf_counter(), time.process_time()
        self._step(part, at)
        return time.perf_counter() - began, time.process_time() - worked

    def _step(self, part: Superpatches, at: int) -> None:
        with self._autocast():
            loss = self._module.loss_at(part, at)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._module.parameters(), self._clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        float(loss.detach())  # waits for the device

    def validation_s(self, batch: Superpatches) -> float:
        """Seconds to rebuild one superpatch without training."""
        part = _moved(batch, 1, self._module.device)
        began = time.perf_counter()
        with torch.no_grad(), self._autocast():
            self._module.validation_step(part, 0)
        if self._module.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._module.device.type, self._dtype, enabled=self._dtype is not None)


def _moved(batch: Superpatches, size: int, device: torch.device) -> Superpatches:
    """The first superpatches of a batch, on a device."""
    return Superpatches(
        batch.hu[:size].to(device), batch.numbers[:size], batch.places[:size], batch.inside[:size].to(device)
    )


def _read(dataset: SuperpatchDataset, count: int, kept: int, progress: Progress) -> tuple[Superpatches, float]:
    """Reads `count` superpatches as a training does; returns the first `kept` as one batch, and the speed."""
    ahead = ResumableLoader(dataset, Order(1, 0, 1, 0, count + READS_IN_FLIGHT))
    name = f"reading {count_of(count, 'superpatch', 'superpatches')}"
    progress(0, count, name)
    began = time.perf_counter()
    parts = []
    for part, done in zip(ahead, range(1, count + 1), strict=False):
        if done <= kept:  # a training has no more of them in memory
            parts.append(part)
        progress(done, count, name)
    speed = count / (time.perf_counter() - began)
    hu, inside = (torch.cat([getattr(part, name) for part in parts]) for name in ("hu", "inside"))
    return Superpatches(hu, [part.numbers[0] for part in parts], [part.places[0] for part in parts], inside), speed


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        reset_peak()


def _peak_now(device: torch.device) -> float:
    """Peak memory since the last reset, as the logs of a run count it."""
    return torch.cuda.max_memory_allocated() / GIB if device.type == "cuda" else peak_resident_gib()


def _write_gib_per_s() -> float:
    """Speed of writing a file to the end, in the folder for temporary files."""
    content = os.urandom(WRITTEN_BYTES)
    with tempfile.TemporaryDirectory(prefix="maesil-plan-") as folder:
        began = time.perf_counter()
        with (Path(folder) / "written").open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return WRITTEN_BYTES / GIB / (time.perf_counter() - began)
