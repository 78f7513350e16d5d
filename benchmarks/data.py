"""The data path: a random 128^3 superpatch of a real scan, from the disk to an array, a batch, a run.

Parts (``--parts``):

* superpatch: every reader that is installed, on the same voxels, from the system's cache;
* cold: the same from the disk, the cache dropped before each read (Linux);
* layout: our store by chunk, shard and codec;
* loader: batches of `maesil`'s loader, and how that compares with a step's appetite;
* memory: resident memory while 10,000 superpatches are read;
* scans: opening, planning and drawing from stores of 10 to 10,000 scans.

With ``--before CHECKOUT``, the parts superpatch and loader also have the reader of another checkout take turns.
The other readers are optional: pip install 'maesil[bench]'; one that is missing is a row with its reason.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.before import other
from benchmarks.harness import (
    Contender,
    Limit,
    Report,
    Row,
    Timing,
    apart,
    parser,
    race,
    read_options,
    several,
)
from benchmarks.stores import (
    PEERS,
    READS_IN_FLIGHT,
    Bench,
    Read,
    forget,
    in_flight,
    multiplied,
    opened,
    present,
    size_mb,
    warmed,
)
from maesil.memory import resident_gib
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.sampling.dataset import ResumableLoader, SuperpatchDataset
from maesil.sampling.plan import Order, make_plan
from maesil.sampling.regions import regions_of
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanStore

PARTS = ("superpatch", "cold", "layout", "loader", "memory", "scans")
REFERENCE = "MONAI, NIfTI.gz"
PER_ROUND = READS_IN_FLIGHT
"""Superpatches of a warm reader's turn: the first finds the processor's caches full of the others' work."""
MAP = "raw memory map"
SETTLE = "settle"
Work = Callable[[Sequence[Shape3]], None]
"""Reads the superpatches that begin at some voxels."""
BLOSC = {"times_nnunet": "blosc2 mmap, as nnU-Net", "times_blosc2": "blosc2 mmap, our codec"}
"""Figure to the row that it compares with."""


def main(words: Sequence[str]) -> Report:
    made = parser("data", __doc__)
    made.set_defaults(rounds=9)
    made.add_argument(
        "--parts",
        type=several(PARTS),
        default=",".join(part for part in PARTS if part != "scans"),  # whose record is another: growth-scans
        help=f"of {','.join(PARTS)} (default: %(default)s)",
    )
    made.add_argument("--scan", type=Path, default=None, help="NIfTI.gz; default: the sample CT, fetched")
    made.add_argument("--edge", type=int, default=128, help="of a superpatch (default: %(default)s)")
    made.add_argument("--draws", type=int, default=10_000, help="of the part memory (default: %(default)s)")
    made.add_argument("--before", type=Path, default=None, help="checkout of another version, to race against")
    made.add_argument("--workers", default="0,1,2", help="worker processes of that version (default: %(default)s)")
    made.add_argument("--appetite", type=float, default=None, help="superpatches/s that a step takes, to compare with")
    made.add_argument("--scans", default="10,100,1000,10000", help="of the part scans (default: %(default)s)")
    options = read_options(made, words)
    parts = options.parts
    with tempfile.TemporaryDirectory(prefix="maesil-bench-") as folder:
        bench = Bench.make(Path(folder) / "data", options.scan, options.edge)
        limits: list[Limit] = []
        rows: list[Row] = []
        for part in parts:
            rows += _PARTS[part](bench, options, limits)
    settings = {
        "superpatch": [options.edge] * 3,
        "volume": list(bench.volume.shape),
        "raw_mb": bench.raw_mb,
        "parts": parts,
        "rounds": options.rounds,
    }
    draw = plot_scans if parts == ["scans"] else None
    return Report(options.name, "A random superpatch from the store", rows, limits, settings, options, draw)


def _superpatch(bench: Bench, options: argparse.Namespace, limits: list[Limit]) -> list[Row]:
    readers = opened(bench)
    for start in bench.starts(2, seed=7):
        for read, _ in readers.values():
            bench.check(start, read(start))
    runs = {name: _one_by_one(read) for name, (read, _) in readers.items()} | in_flight(bench)
    if options.before is not None:
        for kind, store in (("read", bench.spread()), ("resident", bench.store())):
            runs[f"the other version, {kind}"] = other(options.before, store, bench.edge, kind)
    timings = _timed(bench, runs, options.rounds)
    copy = Timing(tuple(_memory_copy_s(bench) for _ in range(options.rounds)), _superpatch_mb(bench))
    limits.append(Limit("memory copy", copy.rate, "MB/s"))
    limits.append(Limit("memory map, warm", _superpatch_mb(bench) * timings[MAP].rate, "MB/s"))
    files = {name: bench.store() for name in runs} | {name: path for name, (_, path) in readers.items()}
    group = "warm: one superpatch, one thread unless it says so"
    return _rows(group, bench, timings, files, REFERENCE) + _missing(group)


def _one_by_one(read: Read) -> Work:
    def run(starts: Sequence[Shape3]) -> None:
        for start in starts:
            read(start)

    return run


def _timed(bench: Bench, runs: dict[str, Work], rounds: int) -> dict[str, Timing]:
    """All readers take the same superpatches in turns, a few at a time."""
    starts = bench.starts(PER_ROUND * (rounds + 1))

    def drain(run: Work, turns: Iterator[Sequence[Shape3]]) -> None:
        run(next(turns))

    turns = [starts[first : first + PER_ROUND] for first in range(0, len(starts), PER_ROUND)]
    return race([Contender(name, partial(drain, run, iter(turns)), PER_ROUND) for name, run in runs.items()], rounds)


def _rows(
    group: str, bench: Bench, timings: dict[str, Timing], files: dict[str, Path], reference: str | None
) -> list[Row]:
    base = timings.get(reference or "")
    rows = []
    for name, timing in timings.items():
        more = {"superpatches_per_s": timing.rate, "size_share": size_mb(files[name]) / bench.raw_mb}
        more |= {figure: timing.times_faster_than(timings[row]) for figure, row in BLOSC.items() if row in timings}
        mapped = timings.get(MAP)
        rows.append(
            Row(
                group,
                name,
                1.0 / timing.rate,
                timing.spread,
                None if base is None else timing.times_faster_than(base),
                share_of_limit=None if mapped is None else timing.times_faster_than(mapped),
                limit=None if mapped is None else MAP,
                more=more,
                rounds=[seconds / timing.work for seconds in timing.seconds],
            )
        )
    return rows


def _missing(group: str) -> list[Row]:
    """A row for every contender that could not run."""
    return [Row(group, name, note=f"{name} is not installed") for name in PEERS if present(name) is None]


def _superpatch_mb(bench: Bench) -> float:
    return bench.edge**3 * 2 / 1e6


def _memory_copy_s(bench: Bench) -> float:
    box = np.zeros((bench.edge,) * 3, dtype=np.int16)
    start = time.perf_counter()
    box.copy()
    return time.perf_counter() - start


def _cold(bench: Bench, options: argparse.Namespace, limits: list[Limit]) -> list[Row]:
    readers = {name: pair for name, pair in opened(bench).items() if "Cache" not in name and "resident" not in name}
    rounds = max(3, options.rounds // 2)
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for start in bench.starts(rounds):
        for name, (read, path) in readers.items():
            forget(path)
            begin = time.perf_counter()
            read(start)
            seconds[name].append(time.perf_counter() - begin)
    disk = [_disk_mb_per_s(bench) for _ in range(rounds)]
    limits.append(Limit("disk read, cold, one stream", sorted(disk)[len(disk) // 2], "MB/s"))
    timings = {name: Timing(tuple(found)) for name, found in seconds.items()}
    files = {name: path for name, (_, path) in readers.items()}
    return _rows("cold: pages dropped before each read", bench, timings, files, REFERENCE)


def _disk_mb_per_s(bench: Bench) -> float:
    forget(bench.raw())
    begin = time.perf_counter()
    size = len(bench.raw().read_bytes())
    return size / 1e6 / (time.perf_counter() - begin)


def _layout(bench: Bench, options: argparse.Namespace, limits: list[Limit]) -> list[Row]:
    chosen = [(32, 128, codec) for codec in ("lz4", "zstd", "none")]
    chosen += [(chunk, shard, "lz4") for chunk, shard in ((16, 128), (64, 128), (128, 128), (32, 64), (32, 256))]
    readers, files = {}, {}
    for chunk, shard, codec in chosen:
        name = f"chunk {chunk}, shard {shard}, {codec}"
        store = ScanStore(bench.store(chunk, shard, codec), threads=1)
        scan = store.entries[0].scan_id
        readers[name] = _one_by_one(partial(_read, store, scan, bench.edge))
        files[name] = store.path
    timings = _timed(bench, readers, options.rounds)
    return _rows("our store's layout, warm", bench, timings, files, next(iter(timings)))


def _read(store: ScanStore, scan: str, edge: int, start: Any) -> Any:
    return store.read(scan, start, (edge,) * 3)


def _loader(bench: Bench, options: argparse.Namespace, limits: list[Limit]) -> list[Row]:
    rounds, batches, size = max(3, options.rounds // 3), 24, 4
    runs: dict[str, Callable[[], object]] = {}
    for name, gib in (("compressed", 0.0), ("resident", 8.0)):
        store = bench.store() if gib else bench.spread()
        runs[name] = partial(_drain, _batches(store, bench.edge, gib, size), batches)
        for workers in map(int, options.workers.split(",") if options.before else ()):
            before = other(options.before, store, bench.edge, "loader-resident" if gib else "loader")
            runs[f"the other version, {name}, {workers} workers"] = partial(before, [batches, workers])
            runs[f"{SETTLE}, {name}, {workers}"] = partial(time.sleep, 0.5)  # its workers read ahead for a while
    timings = race([Contender(name, run, float(batches * size)) for name, run in runs.items()], rounds)
    timings = {name: timing for name, timing in timings.items() if not name.startswith(SETTLE)}
    base = next(iter(timings.values()))
    rows = []
    for name, timing in timings.items():
        more = {"superpatches_per_s": timing.rate}
        if options.appetite:
            more["times_appetite"] = timing.rate / options.appetite
        faster = timing.times_faster_than(base)
        rows.append(
            Row("loader: batches of 4", name, timing.median_s, timing.spread, faster, more=more, rounds=timing.seconds)
        )
    return rows


def _batches(store: Path, edge: int, resident_gib: float, size: int) -> Iterator[Any]:
    import torch

    pinned = torch.cuda.is_available()
    dataset = _dataset(store, edge, resident_gib)
    warmed(dataset.store)
    return iter(ResumableLoader(dataset, Order(size, 0, 1, 0, 10**6), pin_memory=pinned))


def _drain(batches: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def _dataset(store: Path, edge: int, resident_gib: float) -> SuperpatchDataset:
    scans = ScanStore(store, resident_gib=resident_gib)
    config = DataConfig(min_tissue=0.0, holdout=HoldoutConfig(train_only=tuple({e.dataset for e in scans.entries})))
    shape = (edge, edge, edge)
    return SuperpatchDataset(scans, make_plan(regions_of(scans, config, shape, "train"), config, 0), shape)


def _memory(bench: Bench, options: argparse.Namespace, limits: list[Limit]) -> list[Row]:
    many = multiplied(bench.store(), bench.folder / "many", 400)
    marks = apart(_resident_while_reading, many, bench.edge, options.draws).value
    rows = []
    for draws, gib in marks.items():
        more = {"resident_gib": gib, "growth_mib": (gib - marks[min(marks)]) * 1024}
        rows.append(Row("memory: one process, random scans of 400", f"after {draws} superpatches", more=more))
    return rows


def _resident_while_reading(store: Path, edge: int, draws: int) -> dict[int, float]:
    marks = {}
    for number, _ in enumerate(itertools.islice(_batches(store, edge, 0.0, 1), draws)):
        if number + 1 in (draws // 20, draws // 4, draws // 2, draws):
            marks[number + 1] = resident_gib()
    return marks


def _scans(bench: Bench, options: argparse.Namespace, limits: list[Limit]) -> list[Row]:
    rows = []
    for count in map(int, options.scans.split(",")):
        store = multiplied(bench.store(), bench.folder / f"scans-{count}", count)
        found = apart(_open_and_draw, store, bench.edge)
        more = {"scans": float(count), **found.value}
        rows.append(
            Row("scans in a store", f"{count} scans", found.value["open_s"], peak_gib=found.peak_gib, more=more)
        )
    return rows


def plot_scans(report: Report, path: Path) -> None:
    """Time and memory against the number of scans."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
    scans = [row.more["scans"] for row in report.rows]
    for name, factor, label in (
        ("open_s", 1.0, "opening, listing"),
        ("plan_s", 1.0, "planning"),
        ("draw_ms", 1e-3, "a draw"),
    ):
        left.loglog(scans, [row.more[name] * factor for row in report.rows], "o-", label=label)
    left.set(xlabel="scans in the store", ylabel="seconds")
    left.legend()
    right.semilogx(scans, [row.peak_gib for row in report.rows], "o-")
    right.set(xlabel="scans in the store", ylabel="peak memory, GiB")
    right.set_ylim(bottom=0)
    figure.suptitle("Cost as the number of scans grows", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _open_and_draw(store: Path, edge: int) -> dict[str, float]:
    begin = time.perf_counter()
    scans = ScanStore(store)
    entries = len(scans.entries)
    opened_s = time.perf_counter() - begin
    dataset = _dataset(store, edge, 0.0)
    planned_s = time.perf_counter() - begin - opened_s
    begin = time.perf_counter()
    for number in range(1000):
        dataset.plan.place(number)
    drawn_s = (time.perf_counter() - begin) / 1000
    return {
        "open_s": opened_s,
        "plan_s": planned_s,
        "plan_ms_per_scan": planned_s / entries * 1e3,
        "draw_ms": drawn_s * 1e3,
    }


_PARTS = {
    "superpatch": _superpatch,
    "cold": _cold,
    "layout": _layout,
    "loader": _loader,
    "memory": _memory,
    "scans": _scans,
}
