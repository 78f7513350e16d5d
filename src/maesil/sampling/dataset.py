"""Superpatches of a store as a PyTorch dataset and loader: the only place where files become tensors."""

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


@final
class SuperpatchDataset(Dataset[Superpatches]):
    """Dataset of superpatches, indexed by draw number.

    Args:
        store: Prepared store; it reopens itself in worker processes.
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
        return self.__getitems__([number])

    def __getitems__(self, numbers: list[int]) -> Superpatches:
        """A whole batch, each superpatch decoded into its place; the loader calls this method if it exists."""
        places = [self.plan.place(number) for number in numbers]
        hu = _batch_buffer((len(numbers), 1, *self.superpatch))
        for box, place in zip(hu.numpy(), places, strict=True):
            self.store.read_into(box[0], place.scan_id, place.origin)
        inside = insides(self.store, numbers, places, self.superpatch, self.count)
        return Superpatches(hu, numbers, places, inside)

    @staticmethod
    def collate(items: Superpatches | Sequence[Superpatches]) -> Superpatches:
        """Joins superpatches into a batch; a complete batch is returned as it is."""
        if isinstance(items, Superpatches):
            return items
        return Superpatches(
            torch.cat([item.hu for item in items]),
            [number for item in items for number in item.numbers],
            [place for item in items for place in item.places],
            torch.cat([item.inside for item in items]),
        )


def insides(
    store: ScanStore, numbers: Sequence[int], places: Sequence[Place], superpatch: Shape3, count: int | None
) -> Int64[Tensor, "b 3"]:
    """Number of voxels of superpatches inside their scans, along each axis; 0 from draw `count` on."""
    found = [
        place.inside(store.entry(place.scan_id).shape, superpatch) if count is None or number < count else (0, 0, 0)
        for number, place in zip(numbers, places, strict=True)
    ]
    return torch.tensor(found, dtype=torch.int64)


def _batch_buffer(shape: tuple[int, ...]) -> Int16[Tensor, "b 1 d h w"]:
    """Memory for a batch; in a loader's worker it is shared, so that the main process gets it without a copy."""
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, dtype=np.int16))
    size = int(np.prod(shape)) * 2
    shared = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.int16).set_(shared).view(shape)


@final
class ResumableLoader:
    """A loader of fixed length that starts at the current position of a run.

    Lightning counts batches of the whole run and asks a resumed loader only for the rest; it treats a loader with
    `state_dict` as resumable. The state is the start in `order`, so there is nothing to store.

    Args:
        dataset: Dataset of superpatches.
        order: Draws of this rank.
        workers: Number of reading processes; 0 reads in this process.
        pin_memory: Whether batches go to page-locked memory, for a faster copy to a GPU.
        collate_fn: Function that joins superpatches into a batch.

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
        collate_fn: Callable[[Sequence[Any]], Any] = SuperpatchDataset.collate,
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
        """An empty state: the order is computed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""
