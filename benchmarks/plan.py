"""Compares the estimate of `maesil plan` with what the run then uses: memory, and time per step.

Each turn asks for the plan of a preset in a fresh process, and then trains it for a few steps in another. Wall time and
processor time per step are means over the steps of a run without the first, of which the last ones may train a fusion;
memory is the peak of the whole process, which has logs and a checkpoint, too. Processor time is that of all threads,
and differs less where other work shares the cores. The scans are synthetic, unless a prepared store is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Report, Row, Timing, parser, read_options, several
from maesil.config import RunConfig, dump_yaml
from maesil.ct.phantom import phantom
from maesil.ct.write import write_nifti
from maesil.datasets.splits import SplitConfig
from maesil.memory import GIB
from maesil.presets import PRESETS
from maesil.sampling.config import HoldoutConfig
from maesil.store.prepare import PrepareConfig, prepare
from maesil.training.logs import curve

SPLITS = ("train", "train", "val", "test")
"""Split of each synthetic patient."""
BATCHES = {"demo": 8, "base": 2, "paper": 1}
"""Preset to superpatches per step: the preset's own on a CPU where a step takes a second, else few."""
STEPS = {"demo": 60, "base": 20, "paper": 6}
"""Preset to optimiser steps of a run: enough to read every scan of a small store, which the estimate counts."""
POLL_S = 0.02


@dataclass(frozen=True)
class Used:
    """What steps of a preset take.

    Attributes:
        step_s: Seconds per step.
        cpu_s: Processor seconds per step, over all threads.
        gib: Peak memory of the process, in GiB.
        busy: Mean number of other processes that wanted a core while it was measured.
    """

    step_s: float
    cpu_s: float
    gib: float
    busy: float


def main(words: Sequence[str]) -> Report:
    made = parser("plan", __doc__)
    made.add_argument(
        "--presets", type=several(BATCHES), default=list(BATCHES), help="presets, with commas (default: all three)"
    )
    made.add_argument("--threads", type=int, default=1, help="CPU threads of each (default: %(default)s)")
    made.add_argument("--size", choices=("usual", "tiny"), default="usual", help="tiny: a trial with few small steps")
    made.add_argument("--store", type=Path, help="a prepared store (default: synthetic scans)")
    options = read_options(made, words)
    with tempfile.TemporaryDirectory(prefix="maesil-bench-") as name:
        folder = Path(name)
        store = options.store or _store(folder)
        configs = {preset: _config(preset, store, options) for preset in options.presets}
        found: dict[str, list[tuple[Used, Used]]] = {preset: [] for preset in configs}
        for number in range(options.rounds):
            for preset, config in configs.items():
                run = folder / f"{preset}-{number}"
                found[preset].append((_planned(config, run), _used(config, run)))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    rows = [row for preset, pairs in found.items() for row in _rows(_group(configs[preset]), pairs)]
    steps = {preset: config.train.steps for preset, config in configs.items()}
    settings = {"threads": options.threads, "steps": steps, "scans": "real" if options.store else "synthetic"}
    return Report(options.name, "The estimate of `maesil plan`, and what the run uses", rows, [], settings, options)


def _store(folder: Path) -> Path:
    scans = folder / "scans"
    scans.mkdir()
    for seed in range(len(SPLITS)):
        write_nifti(scans / f"phantom-{seed}.nii.gz", phantom(seed).volume)
    settings = PrepareConfig(policy="spacing", spacing_mm=2.0, dataset="bench", salt="bench")
    prepare([scans], folder / "store", settings, workers=0)
    return folder / "store"


def _config(preset: str, store: Path, options: argparse.Namespace) -> RunConfig:
    config = PRESETS[preset]()
    tiny = options.size == "tiny"
    synthetic = {f"phantom-{seed}": split for seed, split in enumerate(SPLITS)}
    held_out = HoldoutConfig(by="patient", patients=SplitConfig(overrides={} if options.store else synthetic))
    steps = 3 if tiny else STEPS[preset]
    return replace(
        config,
        data=replace(config.data, store=store, holdout=held_out, padded_crops=True),
        train=replace(config.train, steps=steps, batch=1 if tiny else BATCHES[preset], accumulate=1),
        monitor=replace(config.monitor, validate_every=0, image_every=0, checkpoint_every=steps, log_every=1),
        efficiency=replace(config.efficiency, accelerator="cpu", threads=options.threads),
    )


def _group(config: RunConfig) -> str:
    return f"{config.preset}, {config.model.superpatch[0]}^3, batch {config.train.batch}"


def _planned(config: RunConfig, run: Path) -> Used:
    """What `maesil plan` says."""
    process = _start("plan", ["--json"], config, run)
    output, busy = process.communicate()[0], _busy()
    if process.returncode:
        raise RuntimeError(f"maesil plan failed with exit code {process.returncode}")
    found: dict[str, Any] = json.loads(output)
    return Used(found["step_s"], found["step_cpu_s"], found["memory"]["total"], busy)


def _used(config: RunConfig, run: Path) -> Used:
    """What the run of the same settings uses."""
    log = run / "logs" / "metrics.csv"
    process = _start("pretrain", ["--run", str(run)], config, run)
    cpu_s: list[float] = []
    peak = 0.0
    while process.poll() is None:
        with suppress(psutil.Error):  # it has just ended
            spent, rows = psutil.Process(process.pid), len(curve(log, "loss")[0])
            cpu_s += [sum(spent.cpu_times()[:2])] * (rows - len(cpu_s))
            peak = max(peak, spent.memory_info().rss / GIB)
        time.sleep(POLL_S)
    if process.returncode:
        raise RuntimeError(f"maesil pretrain failed with exit code {process.returncode}")
    (_, rates), (_, peaks) = (curve(log, column) for column in ("superpatches_per_s", "memory_gib"))
    steps = config.train.steps - 2  # without the first one, and the last one, which has the checkpoint
    return Used(
        step_s=statistics.fmean(config.train.batch / rate for rate in rates[1:]),
        cpu_s=(cpu_s[steps] - cpu_s[0]) / steps,
        gib=max(peak, *peaks),
        busy=_busy(),
    )


def _start(command: str, words: Sequence[str], config: RunConfig, run: Path) -> subprocess.Popen[bytes]:
    settings = run.with_suffix(".yaml")
    settings.write_text(dump_yaml(config))
    environment = {**os.environ, "OMP_NUM_THREADS": str(config.efficiency.threads)}
    line = [sys.executable, "-m", "maesil", command, "--config", str(settings), *words]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _busy() -> float:
    """Mean number of processes of the machine that wanted a core in the last minute."""
    return os.getloadavg()[0]


def _rows(group: str, pairs: Sequence[tuple[Used, Used]]) -> list[Row]:
    planned, used = ([pair[at] for pair in pairs] for at in (0, 1))
    ratios = {
        "time, planned to used": [plan.step_s / run.step_s for plan, run in pairs],
        "processor time, planned to used": [plan.cpu_s / run.cpu_s for plan, run in pairs],
        "memory, planned to used": [plan.gib / run.gib for plan, run in pairs],
    }
    more = {name: statistics.median(values) for name, values in ratios.items()}
    return [_row(group, "planned", planned, more), _row(group, "used", used, {})]


def _row(group: str, name: str, measured: Sequence[Used], more: dict[str, float]) -> Row:
    timing = Timing(tuple(each.step_s for each in measured))
    numbers = {
        "processor s": statistics.median(each.cpu_s for each in measured),
        "load of the machine": statistics.fmean(each.busy for each in measured),
    }
    gib = statistics.median(each.gib for each in measured)
    return Row(
        group, name, timing.median_s, timing.spread, peak_gib=gib, more={**numbers, **more}, rounds=timing.seconds
    )
