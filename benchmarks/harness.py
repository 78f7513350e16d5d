"""Shared machinery of the benchmarks: interleaved rounds, medians, ratios, peak memory, limits, JSON, plot.

A benchmark is a module with ``main(words) -> Report``. It

1. reads its options with `read_options(parser(__doc__), words)`, so that all share ``--json``, ``--out``, ...;
2. times its `Contender`s with `race`, which calls each once per round, so that a slow minute of a shared machine
   affects all of them;
3. uses `apart` for measurements in a fresh process (peak memory, a cold cache);
4. measures the limits (`Limit`: a matrix product, a memory copy, a disk read) in the same race, as contenders;
5. returns a `Report` of `Row`s. ``python -m benchmarks`` prints it, and writes NAME.json and NAME.png.

This file needs neither MONAI nor readers of CT, and imports torch and matplotlib only where they are used.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from maesil.memory import GIB, peak_resident_gib, resident_gib

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
TRIAL = "-trial"
HARMLESS = {"json", "out", "name", "rounds"}
"""Options that do not affect the measurement."""


@dataclass(frozen=True)
class Contender:
    """A function to be timed.

    Attributes:
        name: Name of its row.
        run: Function that does one round of work and returns when it is complete (it must synchronise a GPU).
        work: Units of work per round (superpatches, FLOPs, bytes), for a rate.
    """

    name: str
    run: Callable[[], object]
    work: float = 1.0


@dataclass(frozen=True)
class Timing:
    """The times of a contender's rounds.

    Attributes:
        seconds: Time of every round, in order, without the warm-up rounds.
        work: Units of work per round.
    """

    seconds: tuple[float, ...]
    work: float = 1.0

    @property
    def median_s(self) -> float:
        """Median seconds of a round."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range between slowest and fastest round, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / 2 / self.median_s

    @property
    def rate(self) -> float:
        """Units of work per second, at the median."""
        return self.work / self.median_s

    def times_faster_than(self, other: Timing) -> float:
        """Ratio of the rates: the median over rounds of the ratio within a round, if both ran in all rounds."""
        pairs = [(b / other.work) / (a / self.work) for a, b in zip(self.seconds, other.seconds, strict=False)]
        return statistics.median(pairs)


def race(contenders: Sequence[Contender], rounds: int, warmup: int = 1) -> dict[str, Timing]:
    """Times the contenders in turns within this process.

    Args:
        contenders: Contenders with unique names.
        rounds: Number of timed calls of each.
        warmup: Number of calls of each before the timed ones, in the same order.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    assert len(seconds) == len(contenders), "two contenders of one name"
    for number in range(warmup + rounds):
        for contender in contenders:
            start = time.perf_counter()
            contender.run()
            if number >= warmup:
                seconds[contender.name].append(time.perf_counter() - start)
        print(f"round {number + 1} of {warmup + rounds}", file=sys.stderr, flush=True)
    return {contender.name: Timing(tuple(seconds[contender.name]), contender.work) for contender in contenders}


@dataclass(frozen=True)
class Apart(Generic[T]):
    """The result of a function in a separate process.

    Attributes:
        value: Result of the function.
        start_gib: Resident memory before the call, including imports.
        peak_gib: Peak resident memory of the process.
        seconds: Time of the call itself.
    """

    value: T
    start_gib: float
    peak_gib: float
    seconds: float


def apart(function: Callable[..., T], *arguments: Any) -> Apart[T]:
    """Calls a function of a module in a fresh process, and measures that process's peak memory.

    Args:
        function: Function that can be imported by name and whose result can be pickled.
        arguments: Arguments that can be pickled.

    Raises:
        RuntimeError: The process died, for example out of memory. An error in the function is raised unchanged.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_back, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process of {function.__name__} died with exit code {process.exitcode}") from None
    process.join()
    if isinstance(outcome, BaseException):
        raise outcome
    result: Apart[T] = outcome
    return result


def _report_back(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        started = resident_gib()
        begin = time.perf_counter()
        value = function(*arguments)
        sender.send(Apart(value, started, peak_resident_gib(), time.perf_counter() - begin))
    except Exception as error:
        sender.send(error)


@dataclass(frozen=True)
class Limit:
    """The best rate of the machine for an operation, measured in the same run.

    Attributes:
        name: Name of the operation, such as "matrix product, bf16".
        rate: Rate in `unit`.
        unit: Unit of the rate, such as "GFLOP/s" or "GB/s".
    """

    name: str
    rate: float
    unit: str


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table.

    Attributes:
        group: Name of the configuration; rows of one group are compared with each other.
        name: Name of the contender.
        seconds: Median time of a round; None if it could not run, for the reason in `note`.
        spread: Half the range of the rounds as a share of the median.
        times_faster: Speed relative to the group's reference in the same race; 1 for the reference.
        peak_gib: Peak memory of a process that does only this; None if not measured.
        share_of_limit: Share of the report's limit that `limit` names.
        limit: Name of a `Limit`.
        more: Further numbers of this benchmark, by name with unit (`model_gflop`, `mb_per_s`).
        note: Remark, such as the reason for a missing time.
        rounds: Seconds of each round, in order; empty if there were no rounds.
    """

    group: str
    name: str
    seconds: float | None = None
    spread: float | None = None
    times_faster: float | None = None
    peak_gib: float | None = None
    share_of_limit: float | None = None
    limit: str | None = None
    more: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    rounds: Sequence[float] = ()


@dataclass(frozen=True)
class Report:
    """A benchmark's result.

    Attributes:
        name: Name of the file: results/bench/NAME.json.
        title: One line that says what was compared.
        rows: Rows in the order of the table.
        limits: Limits measured in the same run.
        settings: All settings that determine the work, as plain values.
        options: Options from `read_options`.
        draw: Function that draws the report into a PNG; None draws bars of ratios.
    """

    name: str
    title: str
    rows: Sequence[Row]
    limits: Sequence[Limit]
    settings: Mapping[str, Any]
    options: argparse.Namespace
    draw: Callable[[Report, Path], None] | None = None


def parser(benchmark: str, description: str | None) -> argparse.ArgumentParser:
    """Makes a parser with the options that all benchmarks share; a benchmark adds its own.

    Args:
        benchmark: Name of the benchmark, such as "step" or "data".
        description: Docstring of the module.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks {benchmark}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(benchmark=benchmark)
    made.add_argument("--json", action="store_true", help="print JSON instead of tables")
    made.add_argument(
        "--out", type=Path, default=ROOT / "results" / "bench", help="output folder of NAME.json and NAME.png"
    )
    made.add_argument(
        "--name", default=None, help=f"file name without suffix (default: {benchmark}, or {benchmark}{TRIAL} with "
        "other than the default settings)",
    )  # fmt: skip
    made.add_argument("--rounds", type=int, default=3, help="number of timed rounds (default: %(default)s)")
    return made


def several(known: Iterable[str], separator: str = ",") -> Callable[[str], list[str]]:
    """Makes the type of an option that takes some of the known names.

    Args:
        known: Known names.
        separator: Separator between names.
    """
    names = list(known)

    def chosen(word: str) -> list[str]:
        found = [name.strip() for name in word.split(separator)]
        for name in found:
            if name not in names:
                raise argparse.ArgumentTypeError(f"there is no '{name}'; there are: {f'{separator} '.join(names)}")
        return found

    return chosen


def read_options(made: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parses the options and keeps the words for the record. A trial without `--name` gets another name."""
    options = made.parse_args(words)
    usual = made.parse_args([])
    changed = {name for name, value in vars(options).items() if value != getattr(usual, name)} - HARMLESS
    options.command = f"python -m benchmarks {options.benchmark} {shlex.join(words)}".strip()
    options.name = options.name or options.benchmark + (TRIAL if changed else "")
    return options


def publish(report: Report) -> None:
    """Prints a report, and writes NAME.json and NAME.png into the output folder."""
    folder: Path = report.options.out
    folder.mkdir(parents=True, exist_ok=True)
    record = to_json(report)
    (folder / f"{report.name}.json").write_text(record + "\n")
    _draw(report, folder / f"{report.name}.png")
    print(record if report.options.json else to_markdown(report))


def to_json(report: Report) -> str:
    """Returns the report with machine, commit and command."""
    record = {
        "name": report.name,
        "title": report.title,
        "command": report.options.command,
        "commit": commit(),
        "machine": machine(),
        "settings": dict(report.settings),
        "limits": [asdict(limit) for limit in report.limits],
        "rows": [asdict(row) for row in report.rows],
    }
    return json.dumps(record, indent=1, default=str)


def commit() -> str:
    """Commit of the code that ran, with "+" if files were changed after it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()


def machine() -> dict[str, Any]:
    """Describes processor, cores, memory, GPU and versions, without names of hosts or users."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "python": platform.python_version(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = str(torch.__version__)
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name(0)
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def to_markdown(report: Report) -> str:
    """Formats the report as one table per group, with the limits above."""
    lines = [f"# {report.title}", ""]
    lines += [f"limit, {limit.name}: {limit.rate:.4g} {limit.unit}" for limit in report.limits]
    for group in dict.fromkeys(row.group for row in report.rows):
        rows = [row for row in report.rows if row.group == group]
        lines += ["", f"## {group}", "", *_table(rows)]
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    extra = list(dict.fromkeys(name for row in rows for name in row.more))
    head = ["", "s (median)", "+-", "times faster", "peak GiB", "share of limit", *extra, "note"]
    body = [
        [
            row.name,
            _figure(row.seconds),
            _figure(row.spread, "{:.0%}"),
            _figure(row.times_faster, "{:.2f}x"),
            _figure(row.peak_gib, "{:.2f}"),
            _figure(row.share_of_limit, "{:.0%}") + (f" of {row.limit}" if row.limit else ""),
            *(_figure(row.more.get(name)) for name in extra),
            row.note,
        ]
        for row in rows
    ]
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body)]


def _figure(value: float | None, pattern: str = "{:.4g}") -> str:
    return "" if value is None else pattern.format(value)


def _draw(report: Report, path: Path) -> None:
    try:
        (report.draw or plot)(report, path)
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)


SHOWN: tuple[tuple[str, Callable[[Row], float | None], str], ...] = (
    ("times faster", lambda row: row.times_faster, "{:.2f}x"),
    ("share of the limit", lambda row: row.share_of_limit, "{:.0%}"),
    ("peak memory, GiB", lambda row: row.peak_gib, "{:.2f}"),
)


def plot(report: Report, path: Path) -> None:
    """Draws a row of bar charts for every group: speed, share of the limit and memory, as far as measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups: dict[str, list[Row]] = {}
    for row in report.rows:
        groups.setdefault(row.group, []).append(row)
    shown = {group: [kind for kind in SHOWN if any(map(kind[1], rows))] for group, rows in groups.items()}
    shown = {group: kinds for group, kinds in shown.items() if kinds}
    if not shown:
        return
    columns = max(len(kinds) for kinds in shown.values())
    heights = [len(groups[group]) + 1 for group in shown]
    figure, panels = pyplot.subplots(
        len(shown), columns, figsize=(3.0 + 3.5 * columns, 1.0 + 0.32 * sum(heights) + 0.2 * len(shown)),
        squeeze=False, height_ratios=heights, layout="constrained",
    )  # fmt: skip
    for line, (group, kinds) in zip(panels, shown.items(), strict=True):
        for number, axes in enumerate(line):
            if number >= len(kinds):
                axes.set_axis_off()
                continue
            title, value, pattern = kinds[number]
            _bars(axes, groups[group], [value(row) for row in groups[group]], pattern)
            axes.set_title(f"{group}: {title}" if number == 0 else title, fontsize=9)
            if number:
                axes.set_yticklabels([])
    figure.suptitle(report.title, fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _bars(axes: Any, rows: Sequence[Row], values: Sequence[float | None], pattern: str) -> None:
    bars = axes.barh([row.name for row in rows], [value or 0.0 for value in values], color="#4878a8")
    axes.bar_label(bars, ["" if value is None else pattern.format(value) for value in values], fontsize=8, padding=2)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.tick_params(labelsize=8)
