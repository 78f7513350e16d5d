"""Every metric of the catalogue keeps the promises of `maesil.evaluation.measures.Metric`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from maesil.evaluation.measures import METRICS, Metric, mean_psnr, plain_mean
from maesil.evaluation.protocol import REGIONS, Protocol
from maesil.evaluation.volumes import Volumes, prepare_volumes
from maesil.metrics import Lpips
from maesil.metrics.backbones import BACKBONES

SHAPE, PATCH = (32, 48, 40), (8, 8, 8)
PROTOCOL = Protocol(lpips="squeeze")
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def scan() -> np.ndarray:
    """A smooth field in [0, 1]."""
    s, p, x = np.meshgrid(*(np.linspace(0, 3, size) for size in SHAPE), indexing="ij")
    return (0.5 + 0.4 * np.sin(s + 0.7 * p) * np.cos(1.3 * x)).astype(np.float32)


def volumes(noise: float) -> Volumes:
    rng = np.random.default_rng(0)
    truth = scan()
    tokens = rng.random([size // edge for size, edge in zip(SHAPE, PATCH, strict=True)]) < 0.75
    mask = tokens.repeat(PATCH[0], 0).repeat(PATCH[1], 1).repeat(PATCH[2], 2)
    rebuilt = truth + noise * rng.standard_normal(SHAPE).astype(np.float32)
    return prepare_volumes(
        truth, rebuilt.astype(np.float32), mask, np.ones(SHAPE, dtype=bool), PROTOCOL,
        patch=PATCH, predicts_visible=True, device=torch.device("cpu"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Lpips:
    """LPIPS with random weights, which the real network refuses: the promises do not depend on them."""
    torch.manual_seed(0)
    features, taps = BACKBONES["squeeze"]()
    image, heads = torch.zeros(1, 3, 64, 64), {}
    for at, layer in enumerate(features):
        image = layer(image)
        if at in taps:
            heads[f"lin{taps.index(at)}.model.1.weight"] = torch.rand(1, image.shape[1], 1, 1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("maesil.metrics.lpips.verify", lambda name, weights: weights)
        return Lpips("squeeze", features.state_dict(), heads)


@every_metric
def test_measure__gives_a_float_for_known_regions_once(metric: Metric, network: Lpips) -> None:
    found = list(metric.measure(volumes(0.05), PROTOCOL, network))
    assert found
    assert {region for region, _ in found} <= set(REGIONS)
    assert len({region for region, _ in found}) == len(found)
    assert all(isinstance(value, float) and math.isfinite(value) for _, value in found)


@every_metric
def test_measure__of_the_masked_voxels_is_worse_with_more_noise(metric: Metric, network: Lpips) -> None:
    if metric is METRICS["stencil"]:
        pytest.skip("noise that differs from patch to patch is no stencil")
    little, much = (dict(metric.measure(volumes(noise), PROTOCOL, network))["masked"] for noise in (0.0, 0.2))
    assert metric.goodness(little) > metric.goodness(much)


@every_metric
def test_title__says_what_is_better(metric: Metric) -> None:
    assert metric.title.startswith(metric.heading)
    assert metric.title.endswith({"higher": "↑", "lower": "↓", "near one": "→ 1"}[metric.better])
    assert 0 <= metric.decimals <= 6


@every_metric
def test_mean__of_equal_draws_is_their_value(metric: Metric) -> None:
    assert metric.mean([0.75, 0.75, 0.75]) == pytest.approx(0.75)
    assert metric.mean([0.75, math.nan]) == pytest.approx(0.75)
    assert math.isnan(metric.mean([math.nan]))


def test_mean_psnr__is_the_psnr_of_the_mean_squared_error() -> None:
    assert mean_psnr([10.0, 20.0]) == pytest.approx(-10 * math.log10((0.1 + 0.01) / 2))
    assert mean_psnr([math.inf, 10.0]) == pytest.approx(-10 * math.log10(0.05))
    assert mean_psnr([math.inf, math.inf]) == math.inf
    assert plain_mean([1.0, 3.0]) == 2.0
