from __future__ import annotations

import threading

import pytest

from maesil.sampling.ahead import ahead


def test_ahead__gives_all_in_order() -> None:
    assert list(ahead(lambda key: key * 2, range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert list(ahead(lambda key: key, [])) == []


def test_ahead__reads_while_the_caller_works_and_no_further() -> None:
    read: list[int] = []
    third = threading.Event()

    def reading(key: int) -> int:
        read.append(key)
        if key == 2:
            third.set()
        return key

    values = ahead(reading, range(10), count=2)
    assert next(values) == 0
    assert third.wait(10)
    assert read == [0, 1, 2]
    values.close()  # type: ignore[attr-defined]


def test_ahead__an_error_comes_in_its_turn() -> None:
    values = ahead(lambda key: 1 // key, [1, 0, 1])
    assert next(values) == 1
    with pytest.raises(ZeroDivisionError):
        next(values)
