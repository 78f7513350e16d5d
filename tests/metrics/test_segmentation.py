from __future__ import annotations

import math

import pytest
import torch

from maesil.metrics.segmentation import segmentation_scores

SPACING = (2.0, 1.0, 1.0)


def cube(start: int, edge: int = 8) -> torch.Tensor:
    volume = torch.zeros(24, 24, 24, dtype=torch.int64)
    volume[start : start + edge, 8:16, 8:16] = 1
    return volume


def test_segmentation_scores__equal_volumes() -> None:
    (row,) = segmentation_scores(cube(8), cube(8), 1, SPACING)
    assert row == {"dice": 1.0, "hd95_mm": 0.0, "nsd": 1.0}


@pytest.mark.parametrize("shift", [1, 3])
def test_segmentation_scores__a_shifted_cube(shift: int) -> None:
    """By hand: (8 - s) of 8 planes overlap; the end planes lie s planes of 2 mm apart."""
    (row,) = segmentation_scores(cube(8 + shift), cube(8), 1, SPACING)
    assert row["dice"] == pytest.approx((8 - shift) / 8)
    assert row["hd95_mm"] == pytest.approx(2.0 * shift)
    assert (row["nsd"] == 1.0) == (shift == 1)


def test_segmentation_scores__nsd_is_a_share_of_area_on_anisotropic_voxels() -> None:
    """Two boxes of 8 x 8 x 8 voxels of 3 x 1 x 1 mm, a plane (3 mm) apart, by hand.

    A surface piece lies at each corner point between voxels: a whole face inside a face of the box, a bevel along an
    edge, a triangle at a corner. Of either box two kinds of pieces lie farther than 2 mm from the other box: the whole
    outer cap, and the pieces of the other cap, inside the other box, more than 2 mm from its sides.
    """
    s, p, l, n = 3.0, 1.0, 1.0, 8 - 1  # noqa: E741
    corner = math.sqrt((s * p) ** 2 + (p * l) ** 2 + (s * l) ** 2) / 8
    along_s, along_p, along_l = s * math.hypot(p, l) / 2, p * math.hypot(s, l) / 2, l * math.hypot(s, p) / 2
    cap = n * n * p * l + 2 * n * (along_p + along_l) + 4 * corner
    sides = n * (2 * n * s * p + 2 * n * s * l + 4 * along_s)
    inner = (n - 2 * 2) ** 2 * p * l
    expected = 1 - (cap + inner) / (2 * cap + sides)
    truth = torch.zeros(24, 24, 24, dtype=torch.int64)
    truth[8:16, 8:16, 8:16] = 1
    (row,) = segmentation_scores(truth.roll(1, dims=0), truth, 1, (s, p, l))
    assert row["nsd"] == pytest.approx(expected, abs=1e-5)


def test_segmentation_scores__absent_structures() -> None:
    empty = torch.zeros(24, 24, 24, dtype=torch.int64)
    (neither,) = segmentation_scores(empty, empty, 1, SPACING)
    assert all(math.isnan(value) for value in neither.values())
    for predicted, truth in ((empty, cube(8)), (cube(8), empty)):
        (row,) = segmentation_scores(predicted, truth, 1, SPACING)
        assert (row["dice"], row["nsd"], row["hd95_mm"]) == (0.0, 0.0, math.inf)


def test_segmentation_scores__per_class() -> None:
    truth = cube(2) + 2 * cube(14)
    first, second, third = segmentation_scores(cube(2), truth, 3, SPACING)
    assert (first["dice"], second["dice"]) == (1.0, 0.0)
    assert math.isnan(third["dice"])
