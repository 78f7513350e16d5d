"""An estimate in words."""

from __future__ import annotations

from maesil.config import RunConfig
from maesil.planning.estimate import Estimate, OnDevices
from maesil.progress import duration
from maesil.runs.advice import cpu_advice


def estimate_text(estimate: Estimate, config: RunConfig) -> str:
    """An estimate in a few lines, with advice where a run would take too long.

    Args:
        estimate: What a run will need.
        config: Settings of the run.
    """
    rows = {
        "network": _network(estimate),
        "memory": _memory(estimate),
        "time": _time(estimate),
        "data": _data(estimate),
        "disk": f"store {size(estimate.store_gib)}, checkpoints {size(estimate.checkpoints_gib)}",
        "devices": "\n".join(map(_devices, estimate.on_devices)),
    }
    title = f"{estimate.preset} on {estimate.device}, {estimate.precision}, {estimate.threads} CPU threads"
    indent = "\n" + " " * 11
    lines = [title, *(f"  {name:<9}{text.replace(chr(10), indent)}" for name, text in rows.items())]
    accelerator = "cpu" if estimate.device == "CPU" else "gpu"
    return "\n".join(filter(None, [*lines, cpu_advice(config, accelerator, estimate.hours * 3600)]))


def size(gib: float) -> str:
    """A size in words: 1.50 GiB, 320 MiB."""
    return f"{gib:.2f} GiB" if gib >= 0.5 else f"{gib * 1024:.3g} MiB"


def _passes(passes: float) -> str:
    """A number of passes in words: 0.25, 3.1, 2,400."""
    return f"{passes:,.0f}" if passes >= 10 else f"{passes:.2g}"


def _network(estimate: Estimate) -> str:
    return (
        f"{estimate.parameters / 1e6:.1f} M parameters; {estimate.tokens:,} tokens, {estimate.visible:,} visible; "
        f"{estimate.gflop / 1e3:.3g} TFLOP per superpatch and step"
    )


def _memory(estimate: Estimate) -> str:
    memory = estimate.memory
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "moments": memory.moments,
        "activations": memory.activations,
        "Python and libraries": memory.process,
        "decoded voxels": memory.cache,
        "the checkpoint": memory.checkpoint,
    }
    how = "measured" if memory.measured else f"from steps of {estimate.measured_batch}"
    listed = ", ".join(f"{name} {size(gib)}" for name, gib in parts.items() if gib)
    return (
        f"{size(memory.total)} with a batch of {estimate.batch} ({how}); by formula {size(memory.formula)}: {listed}\n"
        f"largest batch for {size(estimate.device_gib)} of memory: {estimate.fitting_batch}"
    )


def _time(estimate: Estimate) -> str:
    measured = estimate.measured_batch
    how = "measured" if measured == estimate.batch else f"from steps of {measured}"
    return (
        f"{estimate.steps:,} steps, about {duration(estimate.hours * 3600)}; {estimate.step_s:.3g} s per step ({how}), "
        f"validation {duration(estimate.validation_h * 3600)}, checkpoints {duration(estimate.checkpoints_h * 3600)}"
    )


def _data(estimate: Estimate) -> str:
    return (
        f"{_passes(estimate.passes)} passes over {estimate.superpatches:,} superpatches; "
        f"the {estimate.limit} is the limit: the loader reads {estimate.read_per_s:.3g} superpatches/s, the step takes "
        f"{estimate.batch * estimate.accumulate / estimate.step_s:.3g}/s"
    )


def _devices(row: OnDevices) -> str:
    if row.devices == 1:
        return f"1: {row.superpatches_per_s:.3g} superpatches/s"
    same = (
        "the batch cannot be divided"
        if row.hours is None
        else f"--train.batch {row.batch} keeps the global batch: {duration(row.hours * 3600)}"
    )
    return (
        f"{row.devices}: {same}; the same batch on each: {row.superpatches_per_s:.3g} superpatches/s, "
        f"{_passes(row.passes)} passes; {size(row.exchanged_gib)} exchanged per step; the {row.limit} is the limit"
    )
