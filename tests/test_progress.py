from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest
from rich.console import Console

from maesil import progress
from maesil.progress import Lines, Pace, duration, scan_bar


class Clock:
    """The time in seconds, as a test sets it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", found)  # type: ignore[attr-defined]
    return found


def test_pace__follows_a_machine_that_becomes_faster(clock: Clock) -> None:
    pace = Pace()
    assert pace.seconds_left(100) is None
    for step in range(1, 11):  # a minute each
        clock.now += 60
        pace.update(step)
    assert pace.seconds_left(100) == pytest.approx(60 * 90)
    for step in range(11, 61):  # ten seconds each, for longer than the window
        clock.now += 10
        pace.update(step)
    assert pace.seconds_left(100) == pytest.approx(10 * 40)
    assert (pace.left(100), pace.left(60)) == ("about 7 min left", "")


def test_pace__an_item_may_take_longer_than_the_window(clock: Clock) -> None:
    pace = Pace(done=5)
    for step in (6, 7):
        clock.now += 1000
        pace.update(step)
    assert pace.seconds_left(10) == pytest.approx(3000)


def test_pace__begins_anew_after_a_pause(clock: Clock) -> None:
    """Not after a long validation, which comes again."""
    pace = Pace()
    for step in range(1, 11):
        clock.now += 10
        pace.update(step)
    clock.now += 250
    pace.update(11)
    assert pace.seconds_left(111) == pytest.approx(100 * 300 / 6), "the last six items took 300 s"
    clock.now += 36_000
    pace.update(12)
    assert pace.seconds_left(112) is None
    clock.now += 10
    pace.update(13)
    assert pace.seconds_left(113) == pytest.approx(100 * 10)


def test_pace__the_time_before_the_work_does_not_count(clock: Clock) -> None:
    pace = Pace()
    for wait in (4000, 9000):  # a training before each of two models is scored
        clock.now += wait
        pace.update(0)
        for done in (1, 2):
            clock.now += 10
            pace.update(done)
            assert pace.seconds_left(30) == pytest.approx(10 * (30 - done))
    clock.now += 4000
    pace.update(1)  # the work began without a word
    assert pace.seconds_left(30) is None


def test_lines__come_by_number_or_by_the_clock_but_not_in_pairs(clock: Clock) -> None:
    printed: list[float] = []
    lines = Lines()
    for step in range(1, 101):
        clock.now += 7.0
        if lines.is_due(step, 100, every=10):
            lines.printed()
            printed.append(clock.now)
    apart = [after - before for before, after in pairwise(printed[:-1])]
    assert min(apart) >= 60
    assert max(apart) <= 70
    assert printed[-1] == 700.0


def test_scan_bar__plain_lines_say_what_and_how_long(clock: Clock) -> None:
    shown = io.StringIO()
    with scan_bar(Console(file=shown, width=200), "scoring") as show:
        show(0, 40, "2 scans in 40 windows")
        for done in range(1, 41):
            clock.now += 2
            show(done, 40, "a" if done <= 20 else "b")
    lines = shown.getvalue().splitlines()
    assert lines[0] == "scoring  2 scans in 40 windows"
    assert lines[1] == "scoring 4/40  a  about 1 min left"
    assert lines[-1] == "scoring 40/40  b"
    assert len(lines) == 11


def test_scan_bar__slow_items_have_a_line_a_minute(clock: Clock) -> None:
    shown = io.StringIO()
    with scan_bar(Console(file=shown, width=200), "scoring") as show:
        for done in range(1, 11):
            clock.now += 61
            show(done, 1000, "a")
    assert len(re.findall("left", shown.getvalue())) == 10


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "1 h 0 min"), (11_400, "3 h 10 min"), (446_400, "5 d 4 h")],
)
def test_duration__to_two_units(seconds: float, words: str) -> None:
    assert duration(float(seconds)) == words


def test_plain_lines__quick_work_has_few() -> None:
    written = io.StringIO()
    with scan_bar(Console(file=written), "reading") as show:
        show(0, 16, "superpatches")
        for done in range(1, 17):
            show(done, 16, "superpatches")
    assert written.getvalue().splitlines() == ["reading  superpatches", "reading 16/16  superpatches"]
