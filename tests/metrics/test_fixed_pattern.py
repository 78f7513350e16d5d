from __future__ import annotations

import math

import pytest
import torch

from maesil.metrics.fixed_pattern import face_ratio, stencil_share

SHAPE, PATCH = (32, 24, 40), (8, 8, 8)
EVERYTHING = torch.ones(SHAPE, dtype=torch.bool)


def field(seed: int = 0) -> torch.Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))


def ramp(axis: int) -> torch.Tensor:
    """1 a voxel along one axis."""
    steps = torch.arange(SHAPE[axis], dtype=torch.float32)
    return steps.view([-1 if at == axis else 1 for at in range(3)]).expand(SHAPE).contiguous()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_face_ratio__of_the_scan_itself_is_one(axis: int) -> None:
    assert face_ratio(field(), field(), EVERYTHING, EVERYTHING, 8, axis) == 1.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_face_ratio__of_steps_that_are_three_times_as_large_at_faces(axis: int) -> None:
    truth = ramp(axis)
    blocky = truth + 2.0 * (truth // 8)  # at every face two more than the one that the ramp steps
    assert face_ratio(blocky, truth, EVERYTHING, EVERYTHING, 8, axis) == pytest.approx(3.0)


def test_face_ratio__takes_any_period() -> None:
    truth = ramp(0)
    blocky = truth + 2.0 * (truth // 8)
    inside = (28 * 1.0 + 2 * 3.0) / 30  # 31 steps, of which those after voxels 8 and 24 are large and inside
    assert face_ratio(blocky, truth, EVERYTHING, EVERYTHING, 16, 0) == pytest.approx(3.0 / inside)


def test_face_ratio__leaves_faces_between_superpatches_out() -> None:
    truth = ramp(0)
    torn = truth + 100.0 * (truth // 16)  # superpatches of two patches, that do not fit to each other
    assert face_ratio(torn, truth, EVERYTHING, EVERYTHING, 8, 0) > 30.0
    assert face_ratio(torn, truth, EVERYTHING, EVERYTHING, 8, 0, 16) == pytest.approx(1.0)


def test_face_ratio__counts_pairs_that_are_both_masked_and_both_scored() -> None:
    truth = ramp(0)
    mask, scored = EVERYTHING.clone(), EVERYTHING.clone()
    mask[:16], scored[:, 12:] = False, False
    spoiled = truth.clone()
    spoiled[:16] += 100.0 * field()[:16]  # visible
    spoiled[:, 12:] -= 100.0 * field()[:, 12:]  # not scored
    assert face_ratio(spoiled, truth, mask, scored, 8, 0) == pytest.approx(1.0)


def test_face_ratio__is_undefined_without_pairs_or_steps() -> None:
    nothing = torch.zeros(SHAPE, dtype=torch.bool)
    assert math.isnan(face_ratio(field(), field(), nothing, EVERYTHING, 8, 0))
    assert math.isnan(face_ratio(torch.zeros(SHAPE), field(), EVERYTHING, EVERYTHING, 8, 0))
    assert math.isnan(face_ratio(field(), field(), EVERYTHING, EVERYTHING, 100, 0))


def test_stencil_share__of_one_pattern_in_every_patch_is_one() -> None:
    pattern = torch.randn(PATCH, generator=torch.Generator().manual_seed(1)).repeat(4, 3, 5)
    pattern -= pattern.mean()
    assert stencil_share(field() + 0.1 * pattern, field(), EVERYTHING, EVERYTHING, PATCH) == pytest.approx(
        1.0, abs=1e-4
    )


def test_stencil_share__of_an_offset_is_zero() -> None:
    assert stencil_share(field() + 0.1, field(), EVERYTHING, EVERYTHING, PATCH) == pytest.approx(0.0, abs=1e-6)


def test_stencil_share__of_noise_is_zero_on_average() -> None:
    shares = [
        stencil_share(
            field() + torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)),
            field(),
            EVERYTHING,
            EVERYTHING,
            PATCH,
        )
        for seed in range(8)
    ]
    assert sum(shares) / len(shares) < 0.003  # 1/60 of the energy without the correction


def test_stencil_share__of_half_pattern_and_half_noise() -> None:
    generator = torch.Generator().manual_seed(2)
    pattern, noise = torch.randn(PATCH, generator=generator).repeat(4, 3, 5), torch.randn(SHAPE, generator=generator)
    pattern = (pattern - pattern.mean()) / pattern.std()
    assert stencil_share(field() + pattern + noise, field(), EVERYTHING, EVERYTHING, PATCH) == pytest.approx(
        0.5, abs=0.02
    )


def test_stencil_share__counts_patches_that_are_masked_and_scored_whole() -> None:
    mask = EVERYTHING.clone()
    mask[8:16] = False
    spoiled = field()
    spoiled[8:16] += torch.randn(PATCH, generator=torch.Generator().manual_seed(3)).repeat(1, 3, 5)
    spoiled[0:8] += 0.01
    assert stencil_share(spoiled, field(), mask, EVERYTHING, PATCH) == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(stencil_share(field(), field(), mask, EVERYTHING, PATCH))
