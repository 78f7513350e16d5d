"""Terminal output of work on many scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maesil.counts import count_of
from maesil.store.prepare import PrepareReport

PLAIN_LINES = 10
"""Number of lines printed over all scans if the output is not a terminal."""


@contextmanager
def scan_bar(console: Console, title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Shows a progress bar over scans, or plain lines if the output is not a terminal.

    Yields a callback that takes the scans done, the total, and the last scan's name.
    """
    if not console.is_terminal:
        yield _plain_lines(console, title)
        return
    columns = (
        f"[bold]{title}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        yield show


def _plain_lines(console: Console, title: str) -> Callable[[int, int, str], None]:
    def show(done: int, total: int, name: str) -> None:
        if done and (done == total or done % max(1, total // PLAIN_LINES) == 0):
            console.print(f"{title} {done}/{total}  {name}", highlight=False, markup=False)

    return show


def prepare_text(report: PrepareReport, out: Path) -> str:
    """Summarises a `prepare` in a few lines, with every source that was left out and the reason."""
    lines = [f"{source}: {layout} ({because})" for source, layout, because in report.matched]
    lines += [f"{count_of(len(report.prepared), 'scan')} prepared, {len(report.skipped)} already there: {out}"]
    if report.hidden:
        lines.append(_hidden_text(report))
    if report.labels:
        lines.append(f"{count_of(report.labels, 'label file')} skipped")
    lines += [f"warning: {name}: {text}" for name, text in report.warnings]
    lines += [
        f"warning: {len(names)} scans have the same bytes: {', '.join(names)}; remove the copies (where training draws "
        "the splits, their patients are in one)"
        for names in report.copies
    ]
    if report.quarantined:
        lines.append(f"{len(report.quarantined)} left out (also in {out / 'quarantine.jsonl'}):")
    lines += [
        f"  {row.path or row.source}: {row.reason}" + (f" ({row.fix})" if row.fix else "") for row in report.quarantined
    ]
    return "\n".join(lines)


def _hidden_text(report: PrepareReport) -> str:
    """How many names are hashed, where they are listed, and how to keep them."""
    names = "name is a hash" if report.hidden == 1 else "names are hashes"
    private = f"{report.names}, as private as the scans, lists them"
    where = private if report.names else "no list of them could be written beside the store"
    return (
        f"{report.hidden} {names}, as those of DICOM, files and folders may tell who the patient is; {where} "
        "(--keep-names keeps those of files and folders)"
    )
