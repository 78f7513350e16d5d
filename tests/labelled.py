"""Small labelled stores: bodies with a bright inclusion, and its label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conftest import blob
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.store.prepare import PrepareConfig, prepare

CENTRES = {"a": (30, 30, 30), "b": (35, 34, 44), "c": (40, 28, 50), "d": (26, 36, 36)}


SHAPE = (70, 64, 80)


def with_inclusion(seed: int, centre: tuple[int, int, int], scale: float = 1.0) -> tuple[Volume, Volume]:
    """A body with a bright cube (label 1) and a dark one beside it (label 2)."""
    depth, height, width = (round(scale * size) for size in SHAPE)
    volume = blob(seed, (depth, height, width))
    hu, labels = volume.array.copy(), np.zeros(volume.shape, dtype=np.uint8)
    for number, (value, shift) in enumerate(((700, 0), (-400, 12)), start=1):
        box = tuple(slice(round(scale * at) - 5 + shift, round(scale * at) + 5 + shift) for at in centre)
        hu[box], labels[box] = value, number
    return Volume(hu, volume.geometry), Volume(labels, volume.geometry)


def labelled_store(folder: Path, scale: float = 1.0) -> Path:
    """Four scans with labels "bright" and "dark", prepared at 2 mm; smaller bodies by a scale."""
    scans = folder / "scans"
    scans.mkdir(parents=True)
    for seed, (name, centre) in enumerate(CENTRES.items()):
        volume, labels = with_inclusion(seed, centre, scale)
        write_nifti(scans / f"{name}.nii.gz", volume)
        write_nifti(scans / f"{name}_labels.nii.gz", labels)
    names = folder / "names.json"
    names.write_text('{"1": "bright", "2": "dark"}')
    config = PrepareConfig(spacing_mm=2.0, salt="test", labels=True, label_names=names)
    assert len(prepare([scans], folder / "store", config, workers=0).prepared) == 4
    return folder / "store"


def counted_names(count: int) -> tuple[list[str], list[str]]:
    """Names of scans that are in no store, and a list that gets one of them whenever it is compared."""
    compared = list[str]()

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(self)
            return str.__eq__(self, other)

    return [Name(number) for number in range(count)], compared
