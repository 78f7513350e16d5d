"""How long-running work reports its progress, and how a terminal or a plain log shows it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Progress = Callable[[int, int, str], None]
"""Function called with the number of items done, the number of all items, and the name of the last one.

With no item done, the name says what the items are.
"""

PLAIN_LINES = 10
"""Approximate number of lines printed over short work if the output is not a terminal."""

LONGEST_SILENCE_S = 60.0
"""Time after which a line is printed with the next item, however many lines there are."""

SHORTEST_GAP_S = 1.0
"""Time after a line of quick work in which its items get none, except the last one."""

WINDOW_S = 300.0
"""Time over which the speed is averaged, so that the time left follows a machine that becomes slower or faster."""


PAUSE = 20
"""Number of usual intervals between items after which one that is longer than `WINDOW_S` was a pause."""


@final
class Pace:
    """The speed of work that goes on: that of the last `WINDOW_S`, or of the last item if it takes longer.

    After a pause, it begins anew.

    Args:
        done: Number of items done before this call.
    """

    def __init__(self, done: int = 0) -> None:
        self._seen = deque([(time.monotonic(), done)])

    def update(self, done: int) -> None:
        """Notes the number of items done now; with none, or fewer than before, other work begins, at its own speed."""
        now = time.monotonic()
        if done == 0 or done < self._seen[-1][1] or self._paused(now):
            self._seen.clear()
        if len(self._seen) > 1 and now - self._seen[-2][0] < WINDOW_S / 100:
            self._seen.pop()  # a hundred notes are enough
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW_S:
            self._seen.popleft()

    def _paused(self, now: float) -> bool:
        """Whether nothing was done for far longer than usual: a machine was asleep, or the process stopped."""
        if len(self._seen) < 3:
            return False
        (began, _), (last, _) = self._seen[0], self._seen[-1]
        return now - last > max(WINDOW_S, PAUSE * (last - began) / (len(self._seen) - 1))

    def seconds_left(self, total: int) -> float | None:
        """Seconds until all items are done; None as long as none was done."""
        (began, before), (now, done) = self._seen[0], self._seen[-1]
        return None if done <= before else (now - began) / (done - before) * (total - done)

    def left(self, total: int) -> str:
        """The time until all items are done, in words; empty at the end and as long as none was done."""
        seconds = self.seconds_left(total)
        return f"about {duration(seconds)} left" if seconds else ""


@final
class Lines:
    """Decides which items get a plain line: about `PLAIN_LINES` of them, or one a minute if that is more often.

    Args:
        gap_s: Time after a line in which items get none, except the last one: quick work has fewer lines.
    """

    def __init__(self, gap_s: float = 0.0) -> None:
        self._printed, self._by_time, self._gap_s = time.monotonic(), False, gap_s

    def is_due(self, done: int, total: int, every: int) -> bool:
        """Whether the item that is done gets a line.

        Args:
            done: Number of items done.
            total: Number of all items; the last one has a line.
            every: Number of items between lines, as long as these come within a minute.
        """
        since = time.monotonic() - self._printed
        silent = since >= LONGEST_SILENCE_S
        self._by_time |= silent  # from then on lines come by the clock alone, not in pairs with those by number
        by_number = not self._by_time and done % every == 0 and since >= self._gap_s
        return done == total or silent or by_number

    def printed(self) -> None:
        """Notes that a line was printed."""
        self._printed = time.monotonic()


@contextmanager
def scan_bar(console: Console, title: str) -> Iterator[Progress]:
    """Shows a progress bar over scans or other items, or plain lines if the output is not a terminal.

    Yields a callback that takes the items done, the total, and the last item's name.
    """
    if not console.is_terminal:
        yield _plain_lines(console, title)
        return
    columns = (
        f"[bold]{title}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=console, speed_estimate_period=WINDOW_S) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int, name: str) -> None:
            if done == 0 or done < bar.tasks[task].completed:
                bar.reset(task)  # other work begins
            bar.update(task, completed=done, total=total, description=name)

        yield show


def _plain_lines(console: Console, title: str) -> Progress:
    pace, lines = Pace(), Lines(SHORTEST_GAP_S)

    def show(done: int, total: int, name: str) -> None:
        pace.update(done)
        counted = f"{title} {done}/{total}" if done else title
        if (done and lines.is_due(done, total, max(1, total // PLAIN_LINES))) or (not done and name):
            parts = filter(None, (counted, name, pace.left(total)))
            console.print("  ".join(parts), highlight=False, markup=False)
            lines.printed()

    return show


def duration(seconds: float) -> str:
    """A time in words, to two units: 40 s, 12 min, 3 h 10 min, 5 d 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
