"""Superpatches of a store as a PyTorch dataset and loader: the one door between files and tensors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Bool, Int16, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from maesil.sampling.plan import OnePass, Order, Place, Plan
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanStore


class Superpatches(NamedTuple):
    """A batch as it comes from disk; windowing and augmentation happen on the device.

    Attributes:
        hu: (b, 1, d, h, w) int16 in HU; voxels outside the scan are air (-1024).
        numbers: The draws, counted over the whole run.
        places: Where each superpatch lies, for messages.
        inside: (b, 3) voxels along each axis that lie inside the scan; those behind them are padding. None at all in a
            superpatch that only fills a batch up.
    """

    hu: Int16[Tensor, "b 1 d h w"]
    numbers: list[int]
    places: list[Place]
    inside: Int64[Tensor, "b 3"]


def inside_voxels(inside: Int64[Tensor, "b 3"], superpatch: Shape3) -> Bool[Tensor, "b 1 d h w"]:
    """The voxels of superpatches that lie inside their scans.

    Args:
        inside: How many along each axis, from the first on.
        superpatch: (d, h, w).
    """
    depth, height, width = (
        torch.arange(edge, device=inside.device) < inside[:, axis, None] for axis, edge in enumerate(superpatch)
    )
    return (depth[:, :, None, None] & height[:, None, :, None] & width[:, None, None, :]).unsqueeze(1)


@final
class SuperpatchDataset(Dataset[Superpatches]):
    """Reads the superpatch of any draw number.

    Args:
        store: The prepared store; reopened by itself in worker processes.
        plan: Which superpatch comes when.
        superpatch: Voxels of a superpatch.
        count: Draws that count; what a batch is filled up with beyond them has no voxel inside. None: all.
    """

    def __init__(self, store: ScanStore, plan: Plan, superpatch: Shape3, count: int | None = None) -> None:
        self.store = store
        self.plan = plan
        self.superpatch = superpatch
        self.count = count

    def __getitem__(self, number: int) -> Superpatches:
        return self.__getitems__([number])

    def __getitems__(self, numbers: list[int]) -> Superpatches:
        """A whole batch, each superpatch decoded into its place: the loader asks for this where it is offered."""
        places = [self.plan.place(number) for number in numbers]
        hu = _batch_buffer((len(numbers), 1, *self.superpatch))
        for box, place in zip(hu.numpy(), places, strict=True):
            self.store.read_into(box[0], place.scan_id, place.origin)
        inside = insides(self.store, numbers, places, self.superpatch, self.count)
        return Superpatches(hu, numbers, places, inside)

    @staticmethod
    def collate(items: Superpatches | Sequence[Superpatches]) -> Superpatches:
        """Joins superpatches into a batch; one that is a batch already stays."""
        return collate(items)


def insides(
    store: ScanStore, numbers: Sequence[int], places: Sequence[Place], superpatch: Shape3, count: int | None
) -> Int64[Tensor, "b 3"]:
    """How far superpatches lie inside their scans; not at all from draw `count` on."""
    found = [
        place.inside(store.entry(place.scan_id).shape, superpatch) if count is None or number < count else (0, 0, 0)
        for number, place in zip(numbers, places, strict=True)
    ]
    return torch.tensor(found, dtype=torch.int64)


def _batch_buffer(shape: tuple[int, ...]) -> Int16[Tensor, "b 1 d h w"]:
    """Room for a batch: in a loader's worker, where the loader's own process can take it without a copy."""
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, dtype=np.int16))
    size = int(np.prod(shape)) * 2
    shared = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.int16).set_(shared).view(shape)


def collate(items: Superpatches | Sequence[Superpatches]) -> Superpatches:
    """Joins superpatches into a batch; one that is a batch already stays."""
    if isinstance(items, Superpatches):
        return items
    return Superpatches(
        torch.cat([item.hu for item in items]),
        [number for item in items for number in item.numbers],
        [place for item in items for place in item.places],
        torch.cat([item.inside for item in items]),
    )


@final
class ResumableLoader:
    """A loader of fixed length that starts where the run is.

    Lightning counts batches of the whole run and asks a resumed loader only for the rest; it takes a loader with
    `state_dict` for resumable. The state is the start in `order`, so there is nothing to store.

    Args:
        dataset: The superpatches.
        order: The draws of this rank.
        workers: Reading processes; 0 reads in this one.
        pin_memory: Whether batches go to page-locked memory, for a faster copy to a GPU.
        collate_fn: Joins superpatches into a batch.

    Attributes:
        waited_s: Seconds that the caller has waited for batches so far.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        order: Order | OnePass,
        *,
        workers: int = 0,
        pin_memory: bool = False,
        collate_fn: Callable[[Sequence[Any]], Any] = collate,
    ) -> None:
        self.order = order
        self.waited_s = 0.0
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=order,
            collate_fn=collate_fn,
            num_workers=workers,
            pin_memory=pin_memory,
            prefetch_factor=4 if workers else None,
        )

    def __len__(self) -> int:
        return self.order.stop if isinstance(self.order, Order) else len(self.order)

    def __iter__(self) -> Iterator[Any]:
        asked = time.perf_counter()
        for batch in self._loader:
            self.waited_s += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the order is arithmetic."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""
