"""Reading ahead: the next batch comes from the disk while the device works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from jaxtyping import Int16

from maesil.shapes import Shape3
from maesil.tiling import Tile

K = TypeVar("K")
V = TypeVar("V")
ReadsBoxes = Callable[[Shape3, Shape3], Int16[np.ndarray, "d h w"]]
"""Gives the HU voxels of a box (start, shape), filled with air where it reaches past the volume."""


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


def tile_batches(
    read: ReadsBoxes, tiles: Sequence[Tile], shape: Shape3, batch: int
) -> Iterator[tuple[Sequence[Tile], Int16[np.ndarray, "b 1 d h w"]]]:
    """Tiles with their HU voxels, `batch` at a time (the last ones fewer), read ahead.

    Args:
        read: Gives boxes of the scan.
        tiles: In the order of the batches.
        shape: (d, h, w) of a tile.
        batch: Tiles at a time.
    """
    batches = [tiles[start : start + batch] for start in range(0, len(tiles), batch)]
    yield from zip(batches, ahead(partial(_boxes, read, shape), batches), strict=True)


def _boxes(read: ReadsBoxes, shape: Shape3, tiles: Sequence[Tile]) -> Int16[np.ndarray, "b 1 d h w"]:
    return np.stack([read(tile.origin, shape) for tile in tiles])[:, None]
