"""Reading ahead: the next batch comes from the disk while the device works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def ahead(read: Callable[[K], V], keys: Iterable[K], count: int = 2) -> Iterator[V]:
    """What `read` gives for each key, in order; up to `count` are read by a thread before they are asked for.

    One thread is enough: decompression and reading leave the interpreter free, and a thread, unlike a process, hands
    its arrays over as they are. An error in `read` is raised where its value would have come.

    Args:
        read: Called in one other thread, for one key after the other.
        keys: In the order of the values.
        count: Values in memory beside the one in use.
    """
    rest = iter(keys)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as reader:
        pending = deque(reader.submit(read, key) for key in islice(rest, count))
        try:
            while pending:
                value = pending.popleft().result()
                pending.extend(reader.submit(read, key) for key in islice(rest, 1))
                yield value
        finally:
            for future in pending:
                future.cancel()
