"""Superpatches of a store, and their loader: the only place where files become tensors."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Int16, Int64
from torch import Tensor

from maesil.sampling.plan import OnePass, Order, Place, Plan
from maesil.shapes import Shape3
from maesil.store.scanstore import BegunRead, ScanStore

READS_IN_FLIGHT = 8
"""Number of superpatches that are read at the same time, at least: more than one batch where batches are small."""


class Superpatches(NamedTuple):
    """A batch as read from disk; windowing and augmentation happen on the device.

    Attributes:
        hu: Voxels (b, 1, d, h, w) as int16 in HU; those outside the scan are air (-1024).
        numbers: Draw numbers, counted over the whole run.
        places: Place of each superpatch, for messages.
        inside: Number of voxels (b, 3) along each axis that lie inside the scan; the rest is padding. It is 0 for a
            superpatch that only fills up a batch.
    """

    hu: Int16[Tensor, "b 1 d h w"]
    numbers: list[int]
    places: list[Place]
    inside: Int64[Tensor, "b 3"]


def inside_voxels(inside: Int64[Tensor, "b 3"], superpatch: Shape3) -> Bool[Tensor, "b 1 d h w"]:
    """The voxels of superpatches that lie inside their scans.

    Args:
        inside: Number of them along each axis, from the first on.
        superpatch: Shape (d, h, w) of a superpatch.
    """
    depth, height, width = (
        torch.arange(edge, device=inside.device) < inside[:, axis, None] for axis, edge in enumerate(superpatch)
    )
    return (depth[:, :, None, None] & height[:, None, :, None] & width[:, None, None, :]).unsqueeze(1)


@runtime_checkable
class Draws(Protocol):
    """Batches of superpatches by draw number.

    Attributes:
        count: Number of draws that count, as in `SuperpatchDataset`; None: all.
    """

    count: int | None

    def begin(self, numbers: Sequence[int], *, pinned: bool = False) -> Callable[[], Any]:
        """Begins to read a batch.

        Args:
            numbers: Draw numbers of its superpatches.
            pinned: Whether it goes to page-locked memory, for a faster copy to a GPU.

        Returns:
            Function that waits for the batch and returns it.
        """


@final
class SuperpatchDataset:
    """Superpatches, indexed by draw number.

    Args:
        store: Prepared store.
        plan: Plan that says which superpatch comes when.
        superpatch: Shape of a superpatch in voxels.
        count: Number of draws that count; later ones, which fill up a batch, have no voxels inside. None: all.
    """

    def __init__(self, store: ScanStore, plan: Plan, superpatch: Shape3, count: int | None = None) -> None:
        self.store = store
        self.plan = plan
        self.superpatch = superpatch
        self.count = count

    def __getitem__(self, number: int) -> Superpatches:
        return self.begin([number])()

    def begin(self, numbers: Sequence[int], *, pinned: bool = False) -> Callable[[], Superpatches]:
        """Begins to read a batch, each superpatch decoded into its place; see `Draws.begin`."""
        places = [self.plan.place(number) for number in numbers]
        hu = torch.empty((len(places), 1, *self.superpatch), dtype=torch.int16, pin_memory=pinned)
        readings = begin_all(self.store, hu, places)
        inside = insides(self.store, numbers, places, self.superpatch, self.count)

        def finish() -> Superpatches:
            for reading in readings:
                reading.wait()
            return Superpatches(hu, list(numbers), places, inside)

        return finish


def begin_all(store: ScanStore, hu: Int16[Tensor, "b 1 d h w"], places: Sequence[Place]) -> list[BegunRead]:
    """Begins to read the superpatches of a batch into it."""
    boxes = zip(hu.numpy()[:, 0], places, strict=True)
    return [store.begin(box, place.scan_id, place.origin) for box, place in boxes]


def insides(
    store: ScanStore, numbers: Sequence[int], places: Sequence[Place], superpatch: Shape3, count: int | None
) -> Int64[Tensor, "b 3"]:
    """Number of voxels of superpatches inside their scans, along each axis; 0 from draw `count` on."""
    found = [
        place.inside(store.entry(place.scan_id).shape, superpatch) if count is None or number < count else (0, 0, 0)
        for number, place in zip(numbers, places, strict=True)
    ]
    return torch.tensor(found, dtype=torch.int64)


@final
class ResumableLoader:
    """A loader of fixed length that starts at the current position of a run, and reads ahead in threads.

    Lightning counts batches of the whole run and asks a resumed loader only for the rest; it treats a loader with
    `state_dict` as resumable. The state is the start in `order`, so there is nothing to store.

    Args:
        draws: Superpatches by draw number.
        order: Draws of this rank.
        pin_memory: Whether batches go to page-locked memory, for a faster copy to a GPU.

    Attributes:
        waited_s: Seconds that the caller has waited for batches so far.
    """

    def __init__(self, draws: Draws, order: Order | OnePass, *, pin_memory: bool = False) -> None:
        self.order = order
        self.waited_s = 0.0
        self._draws, self._pinned = draws, pin_memory

    def __len__(self) -> int:
        return self.order.stop if isinstance(self.order, Order) else len(self.order)

    def __iter__(self) -> Iterator[Any]:
        asked = time.perf_counter()
        for batch in self._read_ahead():
            self.waited_s += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    def _read_ahead(self) -> Iterator[Any]:
        ahead = -(-READS_IN_FLIGHT // self.order.batch)
        begun: deque[Callable[[], Any]] = deque()
        for numbers in self.order:
            begun.append(self._draws.begin(numbers, pinned=self._pinned))
            if len(begun) > ahead:
                yield begun.popleft()()
        while begun:
            yield begun.popleft()()

    def state_dict(self) -> dict[str, Any]:
        """An empty state: the order is computed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""
