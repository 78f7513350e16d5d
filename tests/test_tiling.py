from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesil.errors import ConfigError
from maesil.tiling import Tiling

Triple = tuple[int, int, int]
sizes = st.tuples(*[st.integers(1, 19)] * 3)
tiles = st.tuples(*[st.integers(1, 8)] * 3)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    tile = draw(tiles)
    overlap = (draw(st.integers(0, tile[0] - 1)), draw(st.integers(0, tile[1] - 1)), draw(st.integers(0, tile[2] - 1)))
    return Tiling(draw(sizes), tile, overlap)


def cut(volume: np.ndarray, tiling: Tiling, index: int) -> np.ndarray:
    tile = np.full(tiling.tile, -99, dtype=volume.dtype)
    place = tiling[index]
    tile[place.local] = volume[place.inside]
    return tile


@settings(max_examples=100, deadline=None)
@given(tiling=tilings())
def test_tiling__tiles_put_back_into_their_places_are_the_volume(tiling: Tiling) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, tiling.shape).astype(np.int16)
    rebuilt = np.full_like(volume, -99)
    for tile in tiling:
        rebuilt[tile.inside] = cut(volume, tiling, tile.index)[tile.local]
    assert np.array_equal(rebuilt, volume)


@settings(max_examples=60, deadline=None)
@given(tiling=tilings())
def test_tiling__covers_every_voxel_and_wastes_no_tile(tiling: Tiling) -> None:
    seen = np.zeros(tiling.shape, dtype=int)
    for tile in tiling:
        assert seen[tile.inside].size > 0
        seen[tile.inside] += 1
    assert seen.min() >= 1
    if tiling.overlap == (0, 0, 0):
        assert seen.max() == 1
    assert all(padded >= size for padded, size in zip(tiling.padded_shape, tiling.shape, strict=True))


@settings(max_examples=60, deadline=None)
@given(tiling=tilings())
def test_within__covers_every_voxel_and_pads_only_small_volumes(tiling: Tiling) -> None:
    seen = np.zeros(tiling.shape, dtype=int)
    for tile in tiling.within():
        seen[tile.inside] += 1
        for start, size, edge in zip(tile.origin, tiling.shape, tiling.tile, strict=True):
            assert start + edge <= size or (start == 0 and size < edge)
    assert seen.min() >= 1


def test_tiling__refuses_an_overlap_as_large_as_the_tile() -> None:
    with pytest.raises(ConfigError, match="overlap"):
        Tiling((10, 10, 10), (4, 4, 4), (4, 0, 0))


def test_tile__index_is_row_major_and_padding_lies_at_the_far_end() -> None:
    tiling = Tiling((5, 4, 9), (4, 4, 4))
    assert tiling.counts == (2, 1, 3)
    last = tiling[5]
    assert last.origin == (4, 0, 8)
    assert [s.stop - s.start for s in last.inside] == [1, 4, 1]
    with pytest.raises(IndexError):
        tiling[6]
