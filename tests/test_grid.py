from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maesil.errors import ConfigError
from maesil.grid import PatchGrid

small = st.integers(1, 4)


@settings(max_examples=60, deadline=None)
@given(grid=st.tuples(small, small, small), patch=st.tuples(small, small, small), channels=st.integers(1, 2))
def test_unpatchify__inverts_patchify(grid: tuple[int, int, int], patch: tuple[int, int, int], channels: int) -> None:
    shape = (grid[0] * patch[0], grid[1] * patch[1], grid[2] * patch[2])
    patches = PatchGrid(shape, patch)
    voxels = np.arange(2 * channels * np.prod(shape)).reshape(2, channels, *shape)
    tokens = patches.patchify(voxels)
    assert tokens.shape == (2, patches.tokens, patches.voxels_per_patch * channels)
    assert np.array_equal(patches.unpatchify(tokens), voxels)
    assert torch.equal(patches.unpatchify(patches.patchify(torch.from_numpy(voxels))), torch.from_numpy(voxels))


def test_patchify__token_order_is_plane_row_column() -> None:
    grid = PatchGrid((8, 12, 16), (4, 4, 4))
    voxels = np.zeros((1, 1, 8, 12, 16))
    voxels[0, 0, 4:8, 8:12, 0:4] = 1  # patch (1, 2, 0)
    lit = np.flatnonzero(grid.patchify(voxels)[0].any(-1))
    assert lit.tolist() == [1 * grid.tokens_per_plane + 2 * grid.shape[2] + 0]


def test_patchify__voxel_order_within_a_patch_is_row_major() -> None:
    grid = PatchGrid((4, 4, 4), (2, 2, 2))
    voxels = np.arange(64).reshape(1, 1, 4, 4, 4)
    assert grid.patchify(voxels)[0, 0].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]


@pytest.mark.parametrize(
    ("superpatch", "patch"), [((10, 8, 8), (4, 4, 4)), ((0, 8, 8), (4, 4, 4)), ((8, 8, 8), (-2, 2, 2))]
)
def test_grid__refuses_sizes_that_do_not_fit(superpatch: tuple[int, int, int], patch: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError):
        PatchGrid(superpatch, patch)
