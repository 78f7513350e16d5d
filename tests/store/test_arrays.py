from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from maesil.shapes import Shape3
from maesil.store.arrays import ScanWriter, halved, tissue_blocks

sizes = st.tuples(*[st.integers(1, 40)] * 3)


@given(sizes, st.integers(0, 2**32 - 1))
def test_halved__is_the_mean_of_eight_voxels(shape: Shape3, seed: int) -> None:
    voxels = np.random.default_rng(seed).integers(-1024, 3072, shape).astype(np.int16)
    coarse = halved(voxels)
    assert coarse.shape == tuple(-(-size // 2) for size in shape)
    index = tuple(int(size) - 1 for size in coarse.shape)
    last = voxels[tuple(slice(2 * at, 2 * at + 2) for at in index)]
    # A block cut off by the far end repeats its last voxels, which leaves the mean of what there is.
    assert abs(float(coarse[index]) - last.mean()) <= 0.5


@given(sizes, st.integers(0, 2**32 - 1))
def test_tissue_blocks__count_the_voxels_above_air(shape: Shape3, seed: int) -> None:
    voxels = np.random.default_rng(seed).choice(np.array([-1000, -500, -499, 40], dtype=np.int16), shape)
    blocks = tissue_blocks(voxels)
    assert blocks.shape == tuple(-(-size // 16) for size in shape)
    first = voxels[:16, :16, :16]
    assert blocks[0, 0, 0] == round((first > -500).sum() / 16**3 * 255)


def test_tissue_blocks__are_full_where_all_is_tissue() -> None:
    assert (tissue_blocks(np.zeros((32, 16, 16), dtype=np.int16)) == 255).all()
    assert (tissue_blocks(np.full((32, 16, 16), -1000, dtype=np.int16)) == 0).all()


@pytest.mark.parametrize("shape", [(150, 70, 40), (64, 64, 64), (5, 3, 2), (129, 20, 130)])
def test_scan_writer__blocks_make_the_same_arrays_as_one_piece(tmp_path: Path, shape: Shape3) -> None:
    voxels = np.random.default_rng(0).integers(-1024, 3072, shape).astype(np.int16)
    writer = ScanWriter.create(tmp_path / "scan", shape, 16, 64)
    for start in range(0, shape[0], 64):
        for row in range(0, shape[1], 64):
            writer.write((start, row), voxels[start : start + 64, row : row + 64])
    level = voxels
    for name in ("0", "1", "2"):
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "scan" / name, mode="r")[:], level)
        level = halved(level)
    occupancy = zarr.open_array(tmp_path / "scan" / "occupancy", mode="r")
    np.testing.assert_array_equal(occupancy[:], tissue_blocks(voxels))


def test_scan_writer__a_block_may_be_a_view_with_strides(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(-1024, 3072, (20, 30, 40)).astype(np.int16).transpose(2, 0, 1)[::-1]
    ScanWriter.create(tmp_path / "scan", (40, 20, 30), 16, 64).write((0, 0), voxels)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "scan" / "0", mode="r")[:], voxels)


def test_scan_writer__chunks_divide_a_superpatch_and_lie_in_shards(tmp_path: Path) -> None:
    ScanWriter.create(tmp_path / "scan", (200, 100, 100), 32, 128)
    array = zarr.open_array(tmp_path / "scan" / "0", mode="r")
    assert (array.chunks, array.shards) == ((32, 32, 32), (128, 128, 128))
    assert (array.dtype, array.fill_value, array.metadata.zarr_format) == (np.int16, -1024, 3)
    assert array.metadata.dimension_names == ("z", "y", "x")
