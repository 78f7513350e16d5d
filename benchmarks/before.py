"""A reader of another checkout, in a process of its own: `python -m benchmarks data --before CHECKOUT`.

The process is started as `before.py STORE EDGE KIND` with the other checkout's sources on its path, and serves a line
of work at a time: first voxels of superpatches to read (KIND "read" or "resident"), or a number of batches to draw
(KIND "loader" or "loader-resident", which says the worker processes, too). It answers "done".
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = ("read", "resident", "loader", "loader-resident")


def other(checkout: Path, store: Path, edge: int, kind: str) -> Callable[[Any], None]:
    """A function that has a piece of work done by the other checkout, and returns when it is done."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    words = [sys.executable, __file__, str(store), str(edge), kind]
    process = subprocess.Popen(words, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    asked, answered = process.stdin, process.stdout
    assert asked is not None
    assert answered is not None

    def run(work: Any) -> None:
        asked.write(json.dumps(work) + "\n")
        asked.flush()
        if answered.readline().strip() != "done":
            raise RuntimeError(f"the reader of {checkout} ended")

    return run


def main(store: Path, edge: int, kind: str) -> None:
    from maesil.store.scanstore import ScanStore

    scans = ScanStore(store, resident_gib=8.0 if "resident" in kind else 0.0)
    work = loading(scans, edge) if kind.startswith("loader") else reading(scans, edge)
    for line in sys.stdin:
        work(json.loads(line))
        print("done", flush=True)


def reading(scans: Any, edge: int) -> Callable[[Any], None]:
    names = itertools.cycle([entry.scan_id for entry in scans.entries])

    def read(starts: list[Any]) -> None:
        for start in starts:
            scans.read(next(names), tuple(start), (edge,) * 3)

    return read


def loading(scans: Any, edge: int) -> Callable[[Any], None]:
    """Batches of four through worker processes; the workers have started before the first work is done."""
    from maesil.sampling.config import DataConfig, HoldoutConfig
    from maesil.sampling.dataset import ResumableLoader, SuperpatchDataset
    from maesil.sampling.plan import Order, make_plan
    from maesil.sampling.regions import regions_of

    config = DataConfig(min_tissue=0.0, holdout=HoldoutConfig(train_only=tuple({e.dataset for e in scans.entries})))
    plan = make_plan(regions_of(scans, config, (edge,) * 3, "train"), config, 0)
    loaders: dict[int, Any] = {}

    def load(work: list[int]) -> None:
        batches, workers = work
        if workers not in loaders:
            dataset: Any = SuperpatchDataset(scans, plan, (edge,) * 3)
            loader: Any = ResumableLoader
            loaders[workers] = iter(loader(dataset, Order(4, 0, 1, 0, 10**6), workers=workers))
            for _ in range(1 + 4 * workers):
                next(loaders[workers])
        for _ in range(batches):
            next(loaders[workers])

    return load


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
