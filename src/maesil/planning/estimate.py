"""The command `plan`: what a run will need, from its settings and a few real steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import psutil
import torch

from maesil.config import RunConfig
from maesil.errors import ConfigError
from maesil.memory import GIB
from maesil.planning.footprint import Footprint, footprint
from maesil.planning.rehearsal import Rehearsal, rehearse
from maesil.progress import Progress
from maesil.runs.pretrain import validation_regions
from maesil.sampling.dataset import SuperpatchDataset
from maesil.sampling.plan import make_plan
from maesil.sampling.regions import Region, regions_of
from maesil.shapes import product
from maesil.store.scanstore import ScanStore
from maesil.training.config import EfficiencyConfig
from maesil.training.devices import resolve

DEVICES = (1, 4, 8)
CONTEXT_GIB = 0.6
"""Memory of a GPU that its driver and its libraries take."""
KEPT_CHECKPOINTS = 2
"""Number of checkpoints on disk: the last and the best."""
VOXEL_BYTES = 2


@dataclass(frozen=True)
class Memory:
    """Memory of a training process, in GiB.

    Attributes:
        weights: Weights of the network, by formula.
        gradients: Gradients, by formula.
        moments: State of the optimiser, by formula.
        activations: What a step of the batch keeps for its backward pass, by formula.
        process: Memory of this process before the network was made: Python and its libraries; 0 on a GPU.
        cache: Decoded voxels of the training and validation scans that the loader will keep, in the computer's memory.
        checkpoint: Buffer that a checkpoint is written from, by formula; 0 on a GPU, as it is in the computer's memory.
        formula: Sum of these.
        total: What the run will use at its peak: measured in real steps, and the cache and the checkpoint.
        measured: Whether a step of the whole batch was measured; if not, smaller ones were extended.
    """

    weights: float
    gradients: float
    moments: float
    activations: float
    process: float
    cache: float
    checkpoint: float
    formula: float
    total: float
    measured: bool


@dataclass(frozen=True)
class OnDevices:
    """A run on several devices like this one.

    Attributes:
        devices: Number of devices.
        batch: Superpatches per device that keep the global batch, and so the result; None if it cannot be divided.
        hours: Time of the run with that batch; without the exchange of gradients.
        superpatches_per_s: Speed of all devices with the run's own batch on each.
        passes: Passes over the store with the run's own batch on each, in as many steps.
        exchanged_gib: Gradients that each device sends in a step.
        limit: What sets the speed, if one machine reads for all: "step" or "loader".
    """

    devices: int
    batch: int | None
    hours: float | None
    superpatches_per_s: float
    passes: float
    exchanged_gib: float
    limit: Literal["step", "loader"]


@dataclass(frozen=True)
class Estimate:
    """What a run will need on one device.

    Attributes:
        preset: Name of the preset.
        device: Device that was measured.
        precision: Precision of the steps.
        threads: Number of CPU threads.
        parameters: Number of trainable parameters.
        tokens: Number of tokens of a superpatch.
        visible: Number of tokens that the encoder sees.
        gflop: 10^9 operations of a superpatch's step, forward and backward.
        steps: Number of optimiser steps.
        batch: Superpatches per device and micro-batch.
        accumulate: Micro-batches per optimiser step.
        memory: Memory of the process.
        device_gib: Memory of the device that the batch should fit.
        fitting_batch: Largest batch that fits `device_gib`; 0 if none does.
        step_s: Seconds of an optimiser step, the mean over the run.
        step_cpu_s: Processor seconds of an optimiser step, over all threads.
        measured_batch: Batch of the steps that were timed.
        training_h: Hours of all steps.
        validation_h: Hours of all validations.
        checkpoints_h: Hours of writing checkpoints.
        hours: Hours to the end.
        read_per_s: Superpatches that the loader reads per second, while nothing is computed.
        limit: What sets the speed: "step" or "loader".
        superpatches: Superpatches in a pass over the store.
        passes: Passes over the store.
        store_gib: Size of the store.
        checkpoints_gib: Size of the run's checkpoints.
        on_devices: The run on 1, 4 and 8 devices.
    """

    preset: str
    device: str
    precision: str
    threads: int
    parameters: int
    tokens: int
    visible: int
    gflop: float
    steps: int
    batch: int
    accumulate: int
    memory: Memory
    device_gib: float
    fitting_batch: int
    step_s: float
    step_cpu_s: float
    measured_batch: int
    training_h: float
    validation_h: float
    checkpoints_h: float
    hours: float
    read_per_s: float
    limit: Literal["step", "loader"]
    superpatches: int
    passes: float
    store_gib: float
    checkpoints_gib: float
    on_devices: tuple[OnDevices, ...]

    def to_dict(self) -> dict[str, Any]:
        """The estimate as plain values, for JSON."""
        return asdict(self)


def plan(
    config: RunConfig, *, device_gib: float | None = None, seconds: float = 60.0, progress: Progress | None = None
) -> Estimate:
    """What a run will need: memory, time, passes over the store, disk. It takes a few real steps, and writes nothing.

    Args:
        config: Settings of the run; `config.data.store` must be set.
        device_gib: Memory of the device that the batch should fit, in GiB; None: this device's.
        seconds: About how long to measure; steps of one superpatch are always taken.
        progress: Called before and after every superpatch that is read, and every step.

    Raises:
        ConfigError: No store is given, or a number is not positive.
        StoreError: There is no such store, or nothing to train on.
    """
    if config.data.store is None:
        raise ConfigError("no store is given", fix="--data.store STORE, a folder that `maesil prepare` wrote")
    for name, value in (("device-gib", device_gib), ("seconds", seconds)):
        if value is not None and value <= 0:
            raise ConfigError(f"--{name} is {value}: it should be greater than 0")
    efficiency = resolve(replace(config.efficiency, devices=1, nodes=1, strategy="auto"))
    if efficiency.threads != "auto":
        torch.set_num_threads(efficiency.threads)
    store = ScanStore(config.data.store, resident_gib=config.efficiency.resident_gib)
    regions = regions_of(store, config.data, config.model.superpatch, "train")
    draws = make_plan(regions, config.data, config.seed)
    need = footprint(config, efficiency.precision)
    dataset = SuperpatchDataset(store, draws, config.model.superpatch)
    measured = rehearse(config, dataset, efficiency, need, seconds, progress or (lambda *_: None))
    held_out = validation_regions(config, store)
    validated = min(sum(len(region.tiles) for region in held_out), config.monitor.validation_superpatches)
    cache_gib = min(config.efficiency.resident_gib, _decoded_gib((*regions, *held_out)))
    return _estimate(config, efficiency, store, need, measured, cache_gib, len(draws), validated, device_gib)


def _estimate(
    config: RunConfig,
    efficiency: EfficiencyConfig,
    store: ScanStore,
    need: Footprint,
    measured: Rehearsal,
    cache_gib: float,
    superpatches: int,
    validated: int,
    device_gib: float | None,
) -> Estimate:
    train, monitor = config.train, config.monitor
    is_gpu = efficiency.accelerator == "gpu"
    micro_s = max(measured.seconds(train.batch), train.batch / measured.read_per_s)
    limit: Literal["step", "loader"] = _limit(measured.seconds(train.batch), train.batch, measured.read_per_s)
    checkpoint_gib = (2 * need.weights + need.moments) / GIB
    training_s = train.steps * train.accumulate * micro_s
    validations = math.ceil(train.steps / monitor.validate_every) if monitor.validate_every else 0
    validation_s = validations * validated * measured.validation_s
    # A validation may write the best weights, too.
    written = math.ceil(train.steps / monitor.checkpoint_every) * checkpoint_gib + validations * need.weights / GIB
    checkpoints_s = written / measured.write_gib_per_s
    hours = (training_s + validation_s + checkpoints_s) / 3600
    device = _device_gib(is_gpu) if device_gib is None else device_gib
    return Estimate(
        preset=config.preset,
        device=torch.cuda.get_device_name() if is_gpu else "CPU",
        precision=efficiency.precision,
        threads=torch.get_num_threads(),
        parameters=need.parameters,
        tokens=config.model.grid.tokens,
        visible=config.masking.visible_count(config.model.grid),
        gflop=need.flops / 1e9,
        steps=train.steps,
        batch=train.batch,
        accumulate=train.accumulate,
        memory=_memory(config.train.batch, need, measured, cache_gib, is_gpu),
        device_gib=device,
        fitting_batch=_fitting(need, measured, device, as_gpu=is_gpu or device_gib is not None, is_gpu=is_gpu),
        step_s=train.accumulate * micro_s,
        step_cpu_s=train.accumulate * measured.cpu_seconds(train.batch),
        measured_batch=measured.most.batch,
        training_h=training_s / 3600,
        validation_h=validation_s / 3600,
        checkpoints_h=checkpoints_s / 3600,
        hours=hours,
        read_per_s=measured.read_per_s,
        limit=limit,
        superpatches=superpatches,
        passes=train.steps * train.global_batch(1) / superpatches,
        store_gib=_store_gib(store),
        checkpoints_gib=(KEPT_CHECKPOINTS * need.weights + need.weights + need.moments) / GIB,
        on_devices=tuple(_on(count, config, need, measured, hours, superpatches) for count in DEVICES),
    )


def _limit(step_s: float, batch: int, read_per_s: float) -> Literal["step", "loader"]:
    return "loader" if batch / read_per_s > step_s else "step"


def _decoded_gib(regions: Sequence[Region]) -> float:
    """GiB of the decoded voxels of the scans that regions are part of."""
    shapes = {region.entry.scan_id: region.entry.shape for region in regions}
    return sum(product(shape) for shape in shapes.values()) * VOXEL_BYTES / GIB


def _memory(batch: int, need: Footprint, measured: Rehearsal, cache: float, is_gpu: bool) -> Memory:
    activations = (need.shared + batch * need.activations) / GIB
    parts = (need.weights / GIB, need.gradients / GIB, need.moments / GIB, activations, measured.start_gib)
    # PyTorch writes a checkpoint into one buffer first, for which no piece of freed memory may be large enough.
    checkpoint = 0.0 if is_gpu else (need.weights + need.moments) / GIB
    host = 0.0 if is_gpu else cache + checkpoint
    return Memory(
        *parts,
        cache=cache,
        checkpoint=checkpoint,
        formula=sum(parts) + host,
        total=measured.gib(batch, need.activations / GIB) + host,
        measured=measured.most.batch == batch,
    )


def _device_gib(is_gpu: bool) -> float:
    """Memory of the device: all of a GPU's, and what is free of the computer's."""
    if is_gpu:
        return float(torch.cuda.get_device_properties(0).total_memory) / GIB
    return float(psutil.virtual_memory().available) / GIB


def _fitting(need: Footprint, measured: Rehearsal, device_gib: float, *, as_gpu: bool, is_gpu: bool) -> int:
    """Largest batch for a device: as measured on this device, or by formula for a GPU that is not here."""
    by_formula = need.activations / GIB
    if as_gpu and not is_gpu:
        first, more = CONTEXT_GIB + need.step_bytes(1) / GIB, by_formula
    else:
        first = measured.gib(1, by_formula) + (CONTEXT_GIB if is_gpu else 0.0)
        more = measured.gib(2, by_formula) - measured.gib(1, by_formula)
    if first > device_gib:
        return 0
    return 1 + int((device_gib - first) / max(more, 1e-6))


def _on(
    devices: int, config: RunConfig, need: Footprint, measured: Rehearsal, hours: float, superpatches: int
) -> OnDevices:
    train = config.train
    speed = devices * train.batch / measured.seconds(train.batch)
    whole = train.batch % devices == 0
    batch = train.batch // devices if whole else None
    share = None if batch is None else measured.seconds(batch) / measured.seconds(train.batch)
    return OnDevices(
        devices=devices,
        batch=batch,
        hours=None if share is None else hours * share,
        superpatches_per_s=min(speed, measured.read_per_s),
        passes=train.steps * train.global_batch(devices) / superpatches,
        exchanged_gib=2 * (devices - 1) / devices * need.gradients / GIB,
        limit=_limit(measured.seconds(train.batch) / devices, train.batch, measured.read_per_s),
    )


def _store_gib(store: ScanStore) -> float:
    """Size of the store's arrays, from its manifest; of stores without these records, the decoded voxels."""
    sizes = [record["bytes"] for entry in store.entries for record in entry.arrays.values()]
    decoded = sum(product(entry.shape) for entry in store.entries) * VOXEL_BYTES
    return (sum(sizes) if sizes else decoded) / GIB
