"""Read-ahead: the next batch is read from disk while the device works on the current one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from jaxtyping import Int16

from maesil.ct.volume import AIR_HU, Volume
from maesil.shapes import Shape3
from maesil.tiling import Tile, Tiling

K = TypeVar("K")
V = TypeVar("V")
ReadsBoxes = Callable[[Shape3, Shape3], Int16[np.ndarray, "d h w"]]
"""Function that returns the HU voxels of a box (start, shape), filled with air outside the volume."""


def ahead(read: Callable[[K], V], keys: Iterable[K], count: int = 2) -> Iterator[V]:
    """The values of `read` for each key, in order; a thread reads up to `count` of them in advance.

    One thread is enough: decompression and reading release the GIL, and a thread, unlike a process, passes its arrays
    on without a copy. An error in `read` is raised in place of its value.

    Args:
        read: Function called in one other thread, for one key after the other.
        keys: Keys, in the order of the values.
        count: Number of values in memory besides the one in use.
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
        read: Function that returns boxes of the scan.
        tiles: Tiles, in the order of the batches.
        shape: Shape (d, h, w) of a tile.
        batch: Number of tiles at a time.
    """
    batches = [tiles[start : start + batch] for start in range(0, len(tiles), batch)]
    yield from zip(batches, ahead(partial(_boxes, read, shape), batches), strict=True)


def box_reader(volume: Volume) -> Callable[[Shape3, Shape3], Int16[np.ndarray, "d h w"]]:
    """A function of (start, shape) that returns boxes of an int16 volume, filled with air past its far ends."""

    def read(start: Shape3, shape: Shape3) -> Int16[np.ndarray, "d h w"]:
        tile = Tiling(volume.shape, shape).at(start)
        box = np.full(shape, AIR_HU, dtype=np.int16)
        box[tile.local] = volume.array[tile.inside]
        return box

    return read


def _boxes(read: ReadsBoxes, shape: Shape3, tiles: Sequence[Tile]) -> Int16[np.ndarray, "b 1 d h w"]:
    return np.stack([read(tile.origin, shape) for tile in tiles])[:, None]
