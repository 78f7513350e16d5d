"""Measures pre-training on one and several processes of one thread each (torchrun, gloo, equal batch per process).

Superpatches per second are from the run's log without its first third. Efficiency is the rate of n processes divided by
n times the rate of one. With as many processes as cores, they also share caches, memory bandwidth and the clock's
boost, which one process has alone. `allreduce_ms` is the time to sum as many numbers as the network has parameters.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from benchmarks.harness import Report, Row, Timing, parser, read_options
from maesil.config import RunConfig, dump_yaml
from maesil.ct.sample import sample_ct
from maesil.models import make_model
from maesil.presets import PRESETS
from maesil.store.prepare import PrepareConfig, prepare
from maesil.training.logs import curve


def main(words: Sequence[str]) -> Report:
    made = parser("scaling", __doc__)
    made.add_argument("--preset", default="demo", help="preset of the network (default: %(default)s)")
    made.add_argument("--batch", type=int, default=4, help="superpatches per process and step (default: %(default)s)")
    made.add_argument("--steps", type=int, default=45, help="steps of each run (default: %(default)s)")
    made.add_argument("--processes", default="1,2", help="numbers of processes (default: %(default)s)")
    options = read_options(made, words)
    worlds = [int(word) for word in options.processes.split(",")]
    with tempfile.TemporaryDirectory(prefix="maesil-bench-") as name:
        folder = Path(name)
        prepare([sample_ct()], folder / "store", PrepareConfig(spacing_mm=2.0, dataset="bench", salt="bench"))
        config = _config(folder / "store", options)
        rates: dict[int, list[float]] = {world: [] for world in worlds}
        for number in range(options.rounds):
            for world in worlds:
                rates[world].append(_rate(config, world, folder / f"run-{number}-{world}"))
        numbers = sum(value.numel() for value in make_model(config.model, config.masking).parameters())
        rows = [_row(world, rates, options.batch, _allreduce_s(world, numbers, folder)) for world in worlds]
    settings = {"preset": options.preset, "batch_per_process": options.batch, "parameters": numbers, "threads": 1}
    return Report(options.name, "Pre-training on several processes", rows, [], settings, options)


def _config(store: Path, options: argparse.Namespace) -> RunConfig:
    config = PRESETS[options.preset]()
    return replace(
        config,
        data=replace(config.data, store=store),
        train=replace(config.train, steps=options.steps, batch=options.batch, accumulate=1),
        monitor=replace(config.monitor, validate_every=0, image_every=0, checkpoint_every=options.steps, log_every=5),
        efficiency=replace(config.efficiency, accelerator="cpu", threads=1),
    )


def _rate(config: RunConfig, world: int, run: Path) -> float:
    settings = run.with_suffix(".yaml")
    settings.write_text(dump_yaml(replace(config, efficiency=replace(config.efficiency, devices=world))))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    words = ["-m", "--", "maesil", "pretrain", "--config", str(settings), "--run", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *launcher, *words], env=environment, check=True, capture_output=True)
    _, rates = curve(run / "logs" / "metrics.csv", "superpatches_per_s")
    return statistics.median(rates[len(rates) // 3 :])


def _row(world: int, rates: dict[int, list[float]], batch: int, allreduce_s: float) -> Row:
    timing, alone = (Timing(tuple(1.0 / rate for rate in rates[key])) for key in (world, min(rates)))
    faster = timing.times_faster_than(alone)
    more = {
        "superpatches_per_s": timing.rate,
        "efficiency": faster * min(rates) / world,
        "step_ms": batch * world / timing.rate * 1e3,
        "allreduce_ms": allreduce_s * 1e3,
    }
    name = f"{world} process" + ("es" if world > 1 else "")
    return Row("seconds per superpatch", name, timing.median_s, timing.spread, faster, more=more, rounds=timing.seconds)


def _allreduce_s(world: int, numbers: int, folder: Path) -> float:
    """Median seconds in which `world` processes sum `numbers` fp32 numbers."""
    if world == 1:
        return 0.0
    out = folder / f"allreduce-{world}"
    spawn(_exchange, (world, numbers, str(out)), nprocs=world)  # type: ignore[no-untyped-call]
    return float(out.read_text())


def _exchange(rank: int, world: int, numbers: int, out: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{out}.meet", rank=rank, world_size=world)
    values, seconds = torch.ones(numbers), []
    for _ in range(12):
        distributed.barrier()
        begin = time.perf_counter()
        distributed.all_reduce(values)
        seconds.append(time.perf_counter() - begin)
    if rank == 0:
        Path(out).write_text(str(statistics.median(seconds[2:])))
    distributed.destroy_process_group()
