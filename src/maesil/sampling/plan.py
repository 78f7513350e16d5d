"""Which superpatch comes when: the n-th draw of a run is a function of (seed, n) alone.

Draws are numbered 0, 1, 2, ... over the whole run. Micro-batch t of rank r takes the draws
``(t * world + r) * batch`` onwards, so any number of devices sees the same superpatches in the same global order, and a
resumed run continues by arithmetic, in the middle of a pass too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from maesil.errors import StoreError
from maesil.sampling.config import DataConfig
from maesil.sampling.regions import Region
from maesil.shapes import Shape3

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]

TRIES = 200
"""Number of random origins tried in one scan before a crop falls back to a tile of its grid."""


@dataclass(frozen=True)
class Place:
    """Where a superpatch lies: a scan and the first voxel of the box."""

    scan_id: str
    origin: Shape3

    def inside(self, scan: Shape3, superpatch: Shape3) -> Shape3:
        """Number of voxels of the superpatch along (S, P, L) inside a scan of that shape; the rest is padding."""
        room = zip(superpatch, scan, self.origin, strict=True)
        along = tuple(max(0, min(edge, size - start)) for edge, size, start in room)
        return (along[0], along[1], along[2])


@runtime_checkable
class Plan(Protocol):
    """The order of draws."""

    def __len__(self) -> int:
        """Number of draws in one pass."""

    def place(self, number: int) -> Place:
        """The place of the draw `number`, counted over the whole run."""


def make_plan(regions: Sequence[Region], config: DataConfig, seed: int) -> Plan:
    """The plan selected by `config.sampling`."""
    if config.sampling == "grid":
        return GridPlan(regions, seed)
    power = config.dataset_power
    return RandomPlan(
        regions,
        seed,
        config.min_tissue,
        config.superpatches_per_pass,
        dataset_power=power,
        store_weights=config.store_weights,
        padded=config.padded_crops,
    )


class GridPlan:
    """Every superpatch of the grids once per pass, in a new order each pass (§III-A: 64 of a 512^3 volume).

    Args:
        regions: Regions of the split.
        seed: Seed of the order; None keeps the grid's own order in every pass.
    """

    def __init__(self, regions: Sequence[Region], seed: int | None) -> None:
        self._regions = list(regions)
        self._ends = np.cumsum([len(region.tiles) for region in regions], dtype=np.int64)
        self._seed = seed
        self._order: tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def place(self, number: int) -> Place:
        """The place of the draw `number`."""
        turn, position = divmod(number, len(self))
        if self._seed is None:
            return self._tile(position)
        if self._order is None or self._order[0] != turn:
            self._order = (turn, np.random.default_rng((self._seed, turn)).permutation(len(self)))
        return self._tile(int(self._order[1][position]))

    def _tile(self, position: int) -> Place:
        """The tile of that number, counted through the regions."""
        at = int(np.searchsorted(self._ends, position, side="right"))
        region = self._regions[at]
        tile = region.tiles[position - int(self._ends[at]) + len(region.tiles)]
        return Place(region.entry.scan_id, tile.origin)


class RandomPlan:
    """Random crops from the regions; a scan is drawn in proportion to the superpatches of its grid.

    Args:
        regions: Regions of the split.
        seed: Seed of all draws.
        min_tissue: Smallest share of tissue; crops with less are drawn again.
        per_pass: Number of draws in one pass; None: as many as the grids have superpatches.
        dataset_power: Exponent of a dataset's number of superpatches in its weight: 1 is in proportion, 0 all equal.
        store_weights: Share of the draws of each store, not normalised; None: in proportion to its superpatches.
        padded: Whether crops may extend past a scan's far ends, as far as its tiling does.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        seed: int,
        min_tissue: float,
        per_pass: int | None,
        *,
        dataset_power: float = 1.0,
        store_weights: Sequence[float] | None = None,
        padded: bool = False,
    ) -> None:
        self._regions = list(regions)
        self._seed = seed
        self._min_tissue = min_tissue
        self._padded = padded
        tiles = np.array([len(region.tiles) for region in regions], dtype=np.float64)
        if not tiles.sum():
            raise StoreError("no superpatch to draw from", fix="lower --data.min-tissue, or prepare more scans")
        self._per_pass = per_pass or int(tiles.sum())
        shares = _shares([region.entry.dataset for region in regions], tiles, dataset_power)
        if store_weights is not None:
            shares = _by_store([region.entry.store for region in regions], shares, store_weights)
        self._up_to = shares.cumsum()
        self._up_to /= self._up_to[-1]

    def __len__(self) -> int:
        return self._per_pass

    def place(self, number: int) -> Place:
        """The place of the draw `number`."""
        random = np.random.default_rng((self._seed, number))
        # The same draw as `random.choice` with these shares, without its sums over all scans at every draw.
        region = self._regions[int(self._up_to.searchsorted(random.random(), side="right"))]
        for _ in range(TRIES):
            origin = _random_origin(region, random, self._padded)
            if region.is_allowed(origin) and region.tissue(origin) >= self._min_tissue:
                return Place(region.entry.scan_id, origin)
        tile = region.tiles[int(random.integers(len(region.tiles)))]
        return Place(region.entry.scan_id, tile.origin)


def _shares(datasets: Sequence[str], tiles: Floats, power: float) -> Floats:
    """The share of draws of each scan: by superpatches within its dataset, and by a power of them between datasets."""
    if power == 1.0:
        plain: Floats = tiles / tiles.sum()
        return plain
    totals: dict[str, float] = {}
    for at, name in enumerate(datasets):
        totals[name] = totals.get(name, 0.0) + tiles[at]
    weighed = np.array([tiles[at] * totals[name] ** (power - 1.0) for at, name in enumerate(datasets)])
    shares: Floats = weighed / weighed.sum()
    return shares


def _by_store(stores: Sequence[int], shares: Floats, weights: Sequence[float]) -> Floats:
    """The shares with those of each store scaled to its weight; a store without a superpatch has no part in them."""
    of_store = np.asarray(stores)
    totals = np.bincount(of_store, weights=shares, minlength=len(weights))
    weighed = shares * (np.asarray(weights, dtype=np.float64) / np.where(totals > 0, totals, 1.0))[of_store]
    scaled: Floats = weighed / weighed.sum()
    return scaled


def _random_origin(region: Region, random: np.random.Generator, padded: bool) -> Shape3:
    shape = region.tiling.padded_shape if padded else region.tiling.shape
    spans = [max(0, size - tile) + 1 for size, tile in zip(shape, region.tiling.tile, strict=True)]
    return (int(random.integers(spans[0])), int(random.integers(spans[1])), int(random.integers(spans[2])))


@dataclass(frozen=True)
class Order:
    """The draws of one rank, batch by batch.

    Args:
        batch: Number of superpatches per micro-batch of one rank.
        rank: Rank of this process.
        world: Number of processes.
        start: First micro-batch, for a resumed run.
        stop: Number of micro-batches of the whole run.
    """

    batch: int
    rank: int
    world: int
    start: int
    stop: int

    def __iter__(self) -> Iterator[list[int]]:
        for micro_batch in range(self.start, self.stop):
            first = (micro_batch * self.world + self.rank) * self.batch
            yield list(range(first, first + self.batch))

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class OnePass:
    """The draws 0 to `count` - 1, each once, batch by batch, of one rank.

    Every rank gets as many batches as the others, of the same sizes, because ranks that share weights wait for each
    other. The last batches are smaller; if they do not divide evenly, the last ranks fill theirs up with draws from
    `count` on, which must not count in any score.

    Args:
        count: Total number of draws.
        batch: Number of superpatches per batch of one rank.
        rank: Rank of this process.
        world: Number of processes.
    """

    count: int
    batch: int
    rank: int
    world: int

    def __iter__(self) -> Iterator[list[int]]:
        together = self.batch * self.world
        for begin in range(0, self.count, together):
            own = min(self.batch, -(-(self.count - begin) // self.world))
            first = begin + self.rank * own
            yield list(range(first, first + own))

    def __len__(self) -> int:
        return -(-self.count // (self.batch * self.world))
