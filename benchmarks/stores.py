"""What the data benchmarks read: one real scan, laid out as each contender wants it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maesil.ct.readers import read
from maesil.ct.sample import sample_ct
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.shapes import Shape3
from maesil.store.conform import conform
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore

PEERS = ("monai", "zarr", "zarrs", "blosc2")
"""Packages of contenders that may be missing."""

Read = Callable[[Shape3], npt.NDArray[Any]]
"""Gives the superpatch that begins at a voxel."""

READS_IN_FLIGHT = 8
"""Superpatches that a reader may be asked for at once, as the loader does."""


def present(module: str) -> Any:
    """A package that a contender needs, or None."""
    try:
        return import_module(module)
    except ImportError:
        return None


@dataclass(frozen=True)
class Bench:
    """A scan in a working folder.

    Attributes:
        folder: Where every contender's files lie.
        scan: As it came, NIfTI.gz.
        volume: On the store's voxels: what every contender must return parts of.
        edge: Of a superpatch.
    """

    folder: Path
    scan: Path
    volume: Volume
    edge: int

    @staticmethod
    def make(folder: Path, scan: Path | None, edge: int) -> Bench:
        """Native voxels: what is read has the noise of a real scan, which resampling would smooth away."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source = scan or sample_ct()
        volume = conform(read(source), PrepareConfig(policy="native").recorded())
        array = np.ascontiguousarray(volume.array)
        return Bench(folder, source, Volume(array, volume.geometry), edge)

    @property
    def raw_mb(self) -> float:
        return self.volume.array.nbytes / 1e6

    def starts(self, count: int, seed: int = 0) -> list[Shape3]:
        """Random first voxels of superpatches that lie within the scan."""
        random = np.random.default_rng(seed)
        spans = [max(1, size - self.edge + 1) for size in self.volume.shape]
        return [
            (int(random.integers(spans[0])), int(random.integers(spans[1])), int(random.integers(spans[2])))
            for _ in range(count)
        ]

    def box(self, start: Shape3) -> tuple[slice, slice, slice]:
        i, j, k = (slice(at, min(at + self.edge, size)) for at, size in zip(start, self.volume.shape, strict=True))
        return i, j, k

    def check(self, start: Shape3, found: Any) -> None:
        """Equal work: every contender returns the same voxels."""
        expected = self.volume.array[self.box(start)]
        if not np.array_equal(np.asarray(found).reshape(expected.shape), expected):
            raise AssertionError("a contender returned other voxels")

    def nifti(self) -> Path:
        """The stored voxels as NIfTI.gz: MONAI's path without its resampling."""
        path = self.folder / "nifti" / "scan.nii.gz"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_nifti(path, self.volume)
        return path

    def store(self, chunk: int = 32, shard: int = 128, codec: Any = "lz4") -> Path:
        """A store of the scan."""
        path = self.folder / f"store-{codec}-{chunk}-{shard}"
        if not path.exists():
            config = PrepareConfig(
                policy="native", chunk=chunk, shard=shard, codec=codec, dataset="bench", salt="bench"
            )
            prepare([self.scan], path, config, workers=0)
        return path

    def spread(self, codec: Any = "lz4") -> Path:
        """The same store with the scan under many names, so that nothing that is read is decoded already."""
        path = self.folder / f"spread-{codec}"
        return path if path.exists() else multiplied(self.store(codec=codec), path, READS_IN_FLIGHT * 4)

    def array(self, store: Path) -> Path:
        return store / "scans" / ScanStore(store).entries[0].scan_id / "0"

    def raw(self) -> Path:
        path = self.folder / "raw" / "volume.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            np.save(path, self.volume.array)
        return path

    def blosc2(self, codec: str) -> Path:
        """As nnU-Net's tools write it ("zstd": level 8, bytes shuffled), or with our store's codec ("lz4").

        Both in blocks of our chunk and chunks of our shard.
        """
        blosc2 = import_module("blosc2")
        path = self.folder / "blosc2" / f"{codec}.b2nd"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            ours = {"codec": blosc2.Codec.LZ4HC, "clevel": 2, "filters": [blosc2.Filter.SHUFFLE]}
            theirs = {"codec": blosc2.Codec.ZSTD, "clevel": 8}
            settings = {**(ours if codec == "lz4" else theirs), "typesize": 2}
            array = self.volume.array
            blosc2.asarray(array, urlpath=str(path), mode="w", chunks=(128,) * 3, blocks=(32,) * 3, cparams=settings)
        return path


def size_mb(path: Path) -> float:
    """Of a file or tree."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def forget(path: Path) -> None:
    """Drops a file's or tree's pages from the system's cache, so that the next read comes from the disk."""
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def multiplied(store: Path, out: Path, scans: int) -> Path:
    """A store of many scans: links to one scan's folder under as many names, and a manifest of them."""
    manifest = json.loads((store / "manifest.json").read_text())
    row = manifest["scans"][0]
    source = store / "scans" / row["scan_id"]
    (out / "scans").mkdir(parents=True)
    rows = []
    for number in range(scans):
        name = f"bench-{number:06d}"
        (out / "scans" / name).symlink_to(source.resolve(), target_is_directory=True)
        rows.append({**row, "scan_id": name, "patient": f"p{number:06d}"})
    shutil.copy(store / "zarr.json", out / "zarr.json")
    (out / "manifest.json").write_text(json.dumps({**manifest, "scans": rows}))
    return out


def opened(bench: Bench) -> dict[str, tuple[Read, Path]]:
    """Every contender that is installed: how it reads a superpatch, and its files."""
    found: dict[str, tuple[Read, Path]] = {}
    _add_monai(bench, found)
    _add_zarr(bench, found)
    _add_blosc2(bench, found)
    mapped = np.load(bench.raw(), mmap_mode="r")
    found["raw memory map"] = (lambda start: np.array(mapped[bench.box(start)]), bench.raw())
    for name, codec in (("maesil", "lz4"), ("maesil, zstd", "zstd"), ("maesil, no codec", "none")):
        found[name] = (_ours(bench, ScanStore(bench.spread(codec), threads=1)), bench.store(codec=codec))
    resident = ScanStore(bench.store(), resident_gib=8.0, threads=1)
    found["maesil, resident"] = (_ours(bench, resident), bench.store())
    return found


def warmed(store: ScanStore) -> Iterator[str]:
    """The names of the store's scans, in turn for ever; with a cache, all of their voxels are in it."""
    names = [entry.scan_id for entry in store.entries]
    if store.resident_gib:
        for name in names:
            store.volume(name)
    return itertools.cycle(names)


def in_flight(bench: Bench) -> dict[str, Callable[[Sequence[Shape3]], None]]:
    """Our reader with several reads under way, by threads and cache."""
    kinds: dict[str, dict[str, Any]] = {
        "maesil, 8 in flight, one thread": {"threads": 1},
        "maesil, 8 in flight, all cores": {},
        "maesil, resident, 8 in flight, one thread": {"threads": 1, "resident_gib": 8.0},
        "maesil, resident, 8 in flight, all cores": {"resident_gib": 8.0},
    }
    return {name: _together(bench, _opened(bench, kind)) for name, kind in kinds.items()}


def _opened(bench: Bench, kind: dict[str, Any]) -> ScanStore:
    return ScanStore(bench.store() if "resident_gib" in kind else bench.spread(), **kind)


def _together(bench: Bench, store: ScanStore) -> Callable[[Sequence[Shape3]], None]:
    scans = warmed(store)

    def read(starts: Sequence[Shape3]) -> None:
        boxes = [np.empty((bench.edge,) * 3, dtype=np.int16) for _ in starts]
        readings = [store.begin(box, next(scans), start) for box, start in zip(boxes, starts, strict=True)]
        for reading in readings:
            reading.wait()

    return read


def _ours(bench: Bench, store: ScanStore) -> Read:
    scans = warmed(store)
    return lambda start: store.read(next(scans), start, (bench.edge,) * 3)


def _add_monai(bench: Bench, found: dict[str, tuple[Read, Path]]) -> None:
    if present("monai") is None:
        return
    from monai.data.dataset import CacheDataset, PersistentDataset
    from monai.transforms.compose import Compose
    from monai.transforms.io.array import LoadImage
    from monai.transforms.utility.array import EnsureChannelFirst

    load = Compose([LoadImage(image_only=True), EnsureChannelFirst()])
    file = bench.nifti()

    def crop(image: Any, start: Shape3) -> npt.NDArray[Any]:
        i, j, k = bench.box(start)
        return _as_ours(bench, image[0], (i, j, k))

    found["MONAI, NIfTI.gz"] = (lambda start: crop(load(file), start), file)
    cache = bench.folder / "persistent"
    kept = PersistentDataset([file], load, cache_dir=cache, track_meta=True, weights_only=False)
    kept[0]
    found["MONAI, PersistentDataset"] = (lambda start: crop(kept[0], start), cache)
    held = CacheDataset([file], load, progress=False)
    found["MONAI, CacheDataset"] = (lambda start: crop(held[0], start), file)


def _as_ours(bench: Bench, image: Any, box: Sequence[slice]) -> npt.NDArray[Any]:
    """A box of an image in the file's order of axes, turned to ours; copies the box alone."""
    flips, order = _turn(bench, image)
    inverse: list[slice] = [slice(None)] * 3
    for axis, wanted in enumerate(box):
        size = image.shape[order[axis]]
        inverse[order[axis]] = slice(size - wanted.stop, size - wanted.start) if flips[axis] else wanted
    found = np.asarray(image[tuple(inverse)]).transpose(order)
    found = found[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]
    return np.ascontiguousarray(found).astype(np.int16)


def _turn(bench: Bench, image: Any) -> tuple[tuple[bool, ...], tuple[int, ...]]:
    """Which of the image's axes are ours, and which run the other way."""
    affine = np.asarray(image.affine)[:3, :3]
    ours = bench.volume.geometry.direction * np.array([-1.0, -1.0, 1.0])[:, None]
    cosines = ours.T @ (affine / np.linalg.norm(affine, axis=0))
    order = tuple(int(axis) for axis in np.abs(cosines).argmax(axis=1))
    return tuple(bool(cosines[axis, other] < 0) for axis, other in enumerate(order)), order


def _add_zarr(bench: Bench, found: dict[str, tuple[Read, Path]]) -> None:
    zarr = present("zarr")
    if zarr is None:
        return
    for codec in ("lz4", "zstd"):
        store = bench.store(codec=codec)
        array = bench.array(store)
        plain = zarr.open_array(array, mode="r")
        found[f"zarr-python, {codec}"] = (_indexed(bench, plain), store)
        if present("zarrs") is not None:
            with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}):
                fast = zarr.open_array(array, mode="r")
            found[f"zarrs, {codec}"] = (_indexed(bench, fast), store)


def _indexed(bench: Bench, array: Any) -> Read:
    return lambda start: np.asarray(array[bench.box(start)])


def _add_blosc2(bench: Bench, found: dict[str, tuple[Read, Path]]) -> None:
    blosc2 = present("blosc2")
    if blosc2 is None:
        return
    for name, codec in (("blosc2 mmap, as nnU-Net", "zstd"), ("blosc2 mmap, our codec", "lz4")):
        path = bench.blosc2(codec)
        array = blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
        found[name] = (_indexed(bench, array), path)
