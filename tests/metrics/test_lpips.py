from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.io import imread
from torch.nn import functional as F  # noqa: N812

from maesil.errors import WeightsError
from maesil.metrics import Lpips, load_lpips
from maesil.metrics.lpips import Net


@pytest.fixture(scope="module")
def alex(weights_dir: Path) -> Lpips:
    return load_lpips("alex", weights_dir)


def picture(path: Path) -> torch.Tensor:
    return torch.from_numpy(imread(path).astype(np.float32)).movedim(-1, 0)[None] / 127.5 - 1


def grey(seed: int, count: int = 2, edge: int = 64) -> torch.Tensor:
    noise = torch.rand(count, 1, edge // 4, edge // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (edge, edge), mode="bilinear") * 2 - 1


def test_lpips__alex_reproduces_the_published_distances(alex: Lpips, weights_dir: Path) -> None:
    reference, near, far = (picture(weights_dir / "reference" / f"ex_{name}.png") for name in ("ref", "p1", "p0"))
    assert alex(reference, far).item() == pytest.approx(0.722, abs=5e-4)
    assert alex(reference, near).item() == pytest.approx(0.138, abs=5e-4)


def test_lpips__squeeze_reproduces_the_published_distance(weights_dir: Path) -> None:
    torch.manual_seed(42)
    first = torch.rand(10, 3, 100, 100) * 2 - 1
    second = torch.rand(10, 3, 100, 100) * 2 - 1
    assert load_lpips("squeeze", weights_dir)(first, second).mean().item() == pytest.approx(0.1005, abs=1e-4)


def test_lpips__of_identical_images_is_zero(alex: Lpips) -> None:
    images = grey(0)
    assert alex(images, images.clone()).tolist() == [0.0, 0.0]


def test_lpips__repeats_a_single_channel(alex: Lpips) -> None:
    first, second = grey(0), grey(1)
    repeated = alex(first.expand(-1, 3, -1, -1), second.expand(-1, 3, -1, -1))
    torch.testing.assert_close(alex(first, second), repeated)


def test_spatial__shows_where_images_differ(alex: Lpips) -> None:
    first = grey(0, edge=256)
    second = first.clone()
    second[..., :32, :32] = 1.0
    found = alex.spatial(alex.describe(first), alex.describe(second), (256, 256))
    assert found.shape == (2, 256, 256)
    assert (found[:, :32, :32].mean((1, 2)) > 10 * found[:, 192:, 192:].mean((1, 2))).all()


def test_spatial__has_the_distance_as_its_mean(alex: Lpips) -> None:
    first, second = alex.describe(grey(0)), alex.describe(grey(1))
    spatial = alex.spatial(first, second, (64, 64)).mean((1, 2))
    torch.testing.assert_close(spatial, alex.distance(first, second), rtol=0.05, atol=0)


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_smallest_image__is_the_smallest_that_passes(net: Net, weights_dir: Path) -> None:
    model = load_lpips(net, weights_dir)
    edge = model.smallest_image
    assert model(torch.zeros(1, 1, edge, edge), torch.zeros(1, 1, edge, edge)).item() == 0.0
    with pytest.raises(RuntimeError):
        model.describe(torch.zeros(1, 1, edge - 1, edge - 1))


def test_lpips__cannot_be_made_from_other_weights(weights_dir: Path) -> None:
    backbone = torch.load(weights_dir / "alexnet_features.pth", weights_only=True)
    heads = torch.load(weights_dir / "lpips_lin_v0.1_alex.pth", weights_only=True, map_location="cpu")
    Lpips("alex", backbone, heads)
    heads["lin2.model.1.weight"][0, 7] += 1e-6
    with pytest.raises(WeightsError, match="not the published one"):
        Lpips("alex", backbone, heads)
