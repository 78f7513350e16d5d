"""Whole scans under one mask: superpatches agree on it, and are blended without steps."""

from __future__ import annotations

from typing import final

import numpy as np
import pytest
import torch

from conftest import blob
from maesil.ct.window import Window
from maesil.evaluation.rebuild import RebuiltScan, rebuild
from maesil.evaluation.whole_scan import overlapping, rebuild_whole, scan_mask, tokens_of
from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models.contract import Reconstruction, Reconstructor
from maesil.models.mean import MeanFill
from maesil.models.slice_mae import SliceMAE, SliceMAEConfig
from maesil.sampling.ahead import box_reader
from maesil.tiling import Tiling

GRID = PatchGrid((32, 32, 32))
SHAPE = (70, 64, 80)


@final
class Copy(Reconstructor):
    """Returns the superpatch as it is, and remembers the masks."""

    sees_all = True

    def reconstruct(self, superpatch: torch.Tensor, mask: torch.Tensor) -> Reconstruction:
        self.counts = (~mask).sum(1).tolist()
        return Reconstruction(superpatch, self.voxel_mask(mask))


def test_rebuild_whole__of_a_model_that_copies_is_the_scan() -> None:
    model = Copy(GRID, DualMasking())
    rebuilt = rebuild_whole(model, box_reader(blob(0)), SHAPE, Window(), 3)
    assert np.abs(rebuilt.reconstruction - rebuilt.truth).max() < 1e-6
    assert rebuilt.mask.mean() == pytest.approx(0.75, abs=0.05)
    assert len(set(model.counts)) == 1


def test_rebuild_whole__does_not_depend_on_the_batch() -> None:
    model, read = MeanFill(GRID, DualMasking()), box_reader(blob(0))
    one, many = (rebuild_whole(model, read, SHAPE, Window(), 3, batch=batch) for batch in (1, 16))
    assert np.array_equal(one.mask, many.mask)
    assert np.abs(one.reconstruction - many.reconstruction).max() < 1e-6


def test_rebuild_whole__has_no_steps_between_superpatches() -> None:
    """Means of superpatches jump at their borders, unless they are blended."""
    model, read = MeanFill(GRID, DualMasking()), box_reader(blob(0))

    def largest_steps(rebuilt: RebuiltScan) -> list[float]:
        found = []
        for axis in range(3):
            volume, mask = (np.moveaxis(array, axis, 0) for array in (rebuilt.reconstruction, rebuilt.mask))
            found.append(float(np.abs(np.diff(volume, axis=0))[mask[1:] & mask[:-1]].max()))
        return found

    separate = largest_steps(rebuild(model, read, Tiling(SHAPE, GRID.superpatch), Window(), 3))
    blended = largest_steps(rebuild_whole(model, read, SHAPE, Window(), 3))
    assert all(after < before / 2 for before, after in zip(separate, blended, strict=True))


def test_rebuild_whole__of_chosen_superpatches_is_theirs_in_the_whole_scan() -> None:
    model, read = MeanFill(GRID, DualMasking()), box_reader(blob(0))
    tile = Tiling(SHAPE, GRID.superpatch)[5]
    part = rebuild_whole(model, read, SHAPE, Window(), 3, chosen=[tile])
    full = rebuild_whole(model, read, SHAPE, Window(), 3)
    assert np.array_equal(part.reconstruction[tile.inside], full.reconstruction[tile.inside])
    assert np.array_equal(part.truth, full.truth)
    assert not np.array_equal(part.reconstruction, full.reconstruction)


def test_rebuild_whole__without_a_seed_masks_nothing() -> None:
    rebuilt = rebuild_whole(Copy(GRID, DualMasking()), box_reader(blob(0)), SHAPE, Window(), None)
    assert not rebuilt.mask.any()


def test_scan_mask__of_slices_that_share_masks_is_that_of_volumes() -> None:
    slices = SliceMAEConfig(
        superpatch=(32, 32, 32), patch=(1, 8, 8), masks="shared",
        encoder_width=24, encoder_depth=1, encoder_heads=2, decoder_width=12, decoder_depth=1, decoder_heads=2,
    )  # fmt: skip
    model = SliceMAE(slices, DualMasking())
    shape = overlapping(SHAPE, model.mask_grid).padded_shape
    mask = scan_mask(model, shape, 3)
    assert torch.equal(mask, scan_mask(MeanFill(GRID, DualMasking()), shape, 3))
    tokens = tokens_of(mask, (16, 0, 32), model.grid)[None]
    assert torch.equal(model.voxel_mask(tokens)[0, 0], mask[16:48, :32, 32:64])


@pytest.mark.parametrize(("patch", "stride"), [((8, 8, 8), 16), ((16, 16, 16), 32)])
def test_overlapping__halves_superpatches_of_at_least_four_patches(patch: tuple[int, int, int], stride: int) -> None:
    tiling = overlapping(SHAPE, PatchGrid((32, 32, 32), patch))
    assert tiling[1].origin == (0, 0, stride)
