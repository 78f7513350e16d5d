"""Augmentation of labelled superpatches: what changes, what stays together, and what is drawn."""

from __future__ import annotations

import pytest
import torch

from maesil.ct.window import Window
from maesil.errors import ConfigError
from maesil.tasks.segmentation.augmenter import Augmenter
from maesil.tasks.segmentation.config import NO_AUGMENTATION, AugmentConfig, completed

SHAPE = (32, 32, 32)
WINDOW = Window()
MOVED = AugmentConfig(rotation=30.0, contrast=0.0, noise_hu=0.0)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def ball(count: int) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(edge) - (edge - 1) / 2 for edge in SHAPE), indexing="ij")
    return (sum(axis.square() for axis in axes) < 8**2).long().expand(count, 1, *SHAPE)


def test_augmenter__without_changes() -> None:
    volume, labels = torch.rand(2, 1, *SHAPE), ball(2)
    same = Augmenter(NO_AUGMENTATION, WINDOW)(volume, labels, generators(0, 1))
    assert torch.equal(same[0], volume)
    assert torch.equal(same[1], labels)


def test_augmenter__labels_move_with_the_image() -> None:
    labels = torch.zeros(8, 1, *SHAPE, dtype=torch.int64)
    labels[:, :, 3:14, 5:28, 9:20] = 1
    labels[:, :, 18:30, 2:15, 12:29] = 2
    volume, found = Augmenter(MOVED, WINDOW)(labels / 2.0, labels, generators(*range(8)))
    assert found.unique().tolist() == [0, 1, 2]  # nothing between two classes
    assert found.dtype == labels.dtype
    assert ((volume * 2).round().long() == found).float().mean() > 0.98
    moved = (found != labels).flatten(1).float().mean(dim=1)
    assert 4 <= (moved > 0.02).sum() <= 8  # most are turned, in ways of their own
    assert len(set(moved.tolist())) > 4


@pytest.mark.parametrize(("zoom", "least", "most"), [((1.0, 1.25), 1.0, 2.1), ((0.8, 1.0), 0.45, 1.0)])
def test_augmenter__zoom_above_one_enlarges(zoom: tuple[float, float], least: float, most: float) -> None:
    labels = ball(12)
    config = AugmentConfig(rotation=0.0, zoom=zoom, contrast=0.0, noise_hu=0.0)
    _, found = Augmenter(config, WINDOW)(labels.float(), labels, generators(*range(12)))
    ratios = found.flatten(1).sum(dim=1) / labels.flatten(1).sum(dim=1)
    assert least * 0.99 <= ratios.min()
    assert ratios.max() <= most * 1.01
    assert (ratios - 1).abs().max() > 0.2


def test_augmenter__noise_and_contrast_in_hu() -> None:
    volume, labels = torch.full((64, 1, *SHAPE), 0.5), ball(64)
    noisy, same = Augmenter(AugmentConfig(rotation=0.0, zoom=(1.0, 1.0), contrast=0.0, noise_hu=40.0), WINDOW)(
        volume, labels, generators(*range(64))
    )
    deviations = noisy.flatten(1).std(dim=1) * 2000
    assert torch.equal(same, labels)
    assert 30 < deviations.max() < 41
    assert 16 <= (deviations > 0).sum() <= 48  # half of them
    brighter, _ = Augmenter(AugmentConfig(rotation=0.0, zoom=(1.0, 1.0), contrast=0.1, noise_hu=0.0), WINDOW)(
        volume, labels, generators(*range(64))
    )
    levels = brighter.flatten(1).mean(dim=1)
    assert 0.45 <= levels.min() < 0.48
    assert 0.52 < levels.max() <= 0.55


def test_augmenter__stays_in_the_window() -> None:
    volume = torch.cat([torch.zeros(16, 1, *SHAPE), torch.ones(16, 1, *SHAPE)])
    changed, _ = Augmenter(AugmentConfig(), WINDOW)(volume, ball(32), generators(*range(32)))
    assert changed.min() == 0
    assert changed.max() == 1


def test_augmenter__is_a_function_of_the_draw() -> None:
    volume, labels = torch.rand(2, 1, *SHAPE), ball(2)
    augmenter = Augmenter(AugmentConfig(), WINDOW)
    first = augmenter(volume, labels, generators(3, 4))
    alone = augmenter(volume[1:], labels[1:], generators(4))
    assert torch.equal(first[0][1:], alone[0])
    assert torch.equal(first[1][1:], alone[1])
    assert not torch.equal(augmenter(volume[1:], labels[1:], generators(5))[0], alone[0])


def test_augmenter__in_mixed_precision() -> None:
    volume, labels = torch.rand(4, 1, *SHAPE), ball(4)
    augmenter = Augmenter(AugmentConfig(), WINDOW)
    exact, _ = augmenter(volume, labels, generators(*range(4)))
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = augmenter(volume, labels, generators(*range(4)))
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, exact)


@pytest.mark.parametrize(
    "settings", [{"zoom": (1.1, 1.2)}, {"zoom": (0.5, 0.9)}, {"rotation": 200.0}, {"contrast": 1.0}]
)
def test_augment_config__refuses(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AugmentConfig(**settings)


def test_completed__earlier_runs_were_not_augmented() -> None:
    assert completed({})["augment"] == {"rotation": 0.0, "zoom": [1.0, 1.0], "contrast": 0.0, "noise_hu": 0.0}
    assert completed({"augment": {"rotation": 5}})["augment"] == {"rotation": 5}
