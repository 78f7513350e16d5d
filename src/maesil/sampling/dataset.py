"""Superpatches of a store as a PyTorch dataset and loader: the one door between files and tensors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Int16
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maesil.sampling.plan import Order, Place, Plan
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanStore


class Superpatches(NamedTuple):
    """A batch as it comes from disk; windowing and augmentation happen on the device.

    Attributes:
        hu: (b, 1, d, h, w) int16 in HU; voxels outside the scan are air (-1024).
        numbers: The draws, counted over the whole run.
        places: Where each superpatch lies, for messages.
    """

    hu: Int16[Tensor, "b 1 d h w"]
    numbers: list[int]
    places: list[Place]


@final
class SuperpatchDataset(Dataset[Superpatches]):
    """Reads the superpatch of any draw number.

    Args:
        store: The prepared store; reopened by itself in worker processes.
        plan: Which superpatch comes when.
        superpatch: Voxels of a superpatch.
    """

    def __init__(self, store: ScanStore, plan: Plan, superpatch: Shape3) -> None:
        self.store = store
        self.plan = plan
        self.superpatch = superpatch

    def __getitem__(self, number: int) -> Superpatches:
        place = self.plan.place(number)
        voxels = self.store.read(place.scan_id, place.origin, self.superpatch)
        return Superpatches(torch.from_numpy(voxels)[None, None], [number], [place])


def collate(items: Sequence[Superpatches]) -> Superpatches:
    """Joins superpatches into a batch."""
    return Superpatches(
        torch.cat([item.hu for item in items]),
        [number for item in items for number in item.numbers],
        [place for item in items for place in item.places],
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
        order: Order,
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
        return self.order.stop

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
