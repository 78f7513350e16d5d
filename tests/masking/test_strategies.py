"""What sets one strategy apart from the next (§III-A)."""

from __future__ import annotations

import pytest
import torch

from maesil.grid import PatchGrid
from maesil.masking import AxisMasking, DualMasking, Masking, PlaneMasking, SharedPlaneMasking, UniformMasking

PAPER_GRID = PatchGrid()


def planes_of(masking: Masking, batch: int = 256) -> torch.Tensor:
    mask = masking.draw(batch, PAPER_GRID, torch.Generator().manual_seed(5))
    return mask.view(batch, PAPER_GRID.planes, PAPER_GRID.tokens_per_plane)


def is_contiguous(block: torch.Tensor) -> bool:
    hidden = block.nonzero().flatten()
    return bool((hidden.diff() == 1).all())


def test_plane__every_plane_hides_the_same_share() -> None:
    assert planes_of(PlaneMasking()).sum(-1).unique().tolist() == [192]


def test_uniform__planes_hide_different_shares() -> None:
    assert len(planes_of(UniformMasking()).sum(-1).unique()) > 10


def test_axis__hides_one_contiguous_block_of_whole_planes() -> None:
    planes = planes_of(AxisMasking())
    hidden = planes.all(-1)
    assert torch.equal(hidden, planes.any(-1))
    assert hidden.sum(-1).unique().tolist() == [8]
    assert all(is_contiguous(row) for row in hidden)


def test_axis__every_position_of_the_block_is_equally_likely() -> None:
    starts = planes_of(AxisMasking(), 4000).all(-1).int().argmax(-1)
    counts = starts.bincount(minlength=9).float() / 4000
    assert counts.tolist() == pytest.approx([1 / 9] * 9, abs=0.025)


def test_dual__is_a_block_and_a_share_of_every_plane_outside_it() -> None:
    planes = planes_of(DualMasking())
    whole = planes.all(-1)
    assert whole.sum(-1).unique().tolist() == [8]
    assert all(is_contiguous(row) for row in whole)
    assert planes[~whole].sum(-1).unique().tolist() == [128]


def test_dual__tokens_of_a_plane_are_hidden_equally_often() -> None:
    share = planes_of(DualMasking(), 2000).float().mean((0, 1))
    assert share.min() > 0.72
    assert share.max() < 0.78


def test_shared_plane__visible_positions_lie_in_one_set_for_all_planes() -> None:
    visible = ~planes_of(SharedPlaneMasking())
    assert visible.sum(-1).unique().tolist() == [64]
    shared = visible.any(1)
    assert shared.sum(-1).unique().tolist() == [128]  # of 16 draws of half, none misses a position in practice


def test_shared_plane__planes_are_thinned_each_on_its_own() -> None:
    visible = ~planes_of(SharedPlaneMasking())
    shared = visible.any(1, keepdim=True).expand_as(visible)
    assert visible[shared].float().mean().item() == 0.5
    together = (visible[:, 0] & visible[:, 1]).sum(-1).float().mean().item()
    assert together == pytest.approx(64 * 64 / 128, abs=1.0)  # independent choices of 64 out of the same 128


def test_shared_plane__positions_are_visible_equally_often() -> None:
    share = (~planes_of(SharedPlaneMasking(), 1500)).float().mean((0, 1))
    assert share.min() > 0.22
    assert share.max() < 0.28


@pytest.mark.parametrize(("share", "visible"), [(0.5, 1024), (0.25, 2304), (0.75, 256), (0.3, 16 * (179 - 54))])
def test_shared_plane__leaves_the_square_of_what_a_plane_keeps(share: float, visible: int) -> None:
    masking = SharedPlaneMasking(plane_ratio=share)
    assert masking.visible_count(PAPER_GRID) == visible
    assert planes_of(masking, 3).logical_not().flatten(1).sum(1).tolist() == [visible] * 3
    assert 1 - masking.ratio == pytest.approx((1 - share) ** 2)


def test_dual__of_a_scan_has_blocks_of_half_a_superpatch_and_a_share_of_every_plane_between_them() -> None:
    planes = DualMasking().draw_scan((64, 32, 48), PAPER_GRID, torch.Generator().manual_seed(1)).flatten(1)
    whole = planes.all(-1)
    edges = whole.int().diff().nonzero().flatten()
    assert edges.diff().unique().tolist() == [8]
    assert planes[~whole].float().mean(-1).unique().tolist() == [0.5]


def test_axis__of_a_scan_begins_at_every_phase_equally_often() -> None:
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([AxisMasking().draw_scan((32, 16, 16), PAPER_GRID, generator)[:, 0, 0] for _ in range(2000)])
    assert drawn.float().mean(0).tolist() == pytest.approx([0.5] * 32, abs=0.05)


def test_shared_plane__of_a_scan_keeps_the_same_positions_in_all_planes() -> None:
    mask = SharedPlaneMasking().draw_scan((32, 16, 32), PAPER_GRID, torch.Generator().manual_seed(1))
    assert (~mask).any(0).sum() == 16 * 32 // 2
