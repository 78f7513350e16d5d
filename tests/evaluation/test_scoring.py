from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from maesil.ct.window import Window
from maesil.errors import ConfigError
from maesil.evaluation.measures import METRICS
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.scoring import score_volume
from maesil.metrics import Lpips, load_lpips, psnr

SHAPE = (24, 40, 36)
NO_LPIPS = Protocol(lpips=None)
PLACES = ("truth", "reconstruction", "mask", "scored")


@pytest.fixture(scope="module")
def alex() -> Lpips:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "weights"
    if not root.is_dir():
        pytest.skip(f"no LPIPS weights at {root}: set MAESIL_TEST_DATA")
    return load_lpips("alex", root)


@pytest.fixture
def scan() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random(SHAPE, dtype=np.float32)
    noise = 0.2 * rng.standard_normal(SHAPE).astype(np.float32)
    mask = rng.random(SHAPE) < 0.75
    return dict(zip(PLACES, (truth, truth + noise, mask, np.ones(SHAPE, bool)), strict=True))


def scored(scan: dict[str, np.ndarray], protocol: Protocol, lpips: Lpips | None = None) -> dict[tuple[str, str], Any]:
    rows = score_volume(*(scan[place] for place in PLACES), protocol, lpips)
    assert len(rows) == len({(row.metric, row.region) for row in rows})
    return {(row.metric, row.region): row.value for row in rows}


def test_score_volume__regions_count_what_their_names_say(scan: dict[str, np.ndarray]) -> None:
    found = scored(scan, NO_LPIPS)
    clipped = np.clip(scan["reconstruction"], 0, 1)
    squared = (clipped - scan["truth"]).astype(np.float64) ** 2
    mask = scan["mask"]
    assert found["psnr", "predicted"] == pytest.approx(-10 * np.log10(squared.mean()), abs=1e-4)
    assert found["psnr", "masked"] == pytest.approx(-10 * np.log10(squared[mask].mean()), abs=1e-4)
    assert found["psnr", "whole"] == pytest.approx(-10 * np.log10((squared * mask).mean()), abs=1e-4)


def test_score_volume__ssim_equals_scikit_image(scan: dict[str, np.ndarray]) -> None:
    found = scored(scan, NO_LPIPS)
    pasted = np.where(scan["mask"], np.clip(scan["reconstruction"], 0, 1), scan["truth"])
    mean, full = structural_similarity(
        scan["truth"].astype(np.float64),
        pasted.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    inside = (slice(5, -5),) * 3
    assert found["ssim", "whole"] == pytest.approx(mean, abs=1e-4)
    assert found["ssim", "masked"] == pytest.approx(full[inside][scan["mask"][inside]].mean(), abs=1e-4)


def test_score_volume__without_paste_masked_windows_see_the_prediction(scan: dict[str, np.ndarray]) -> None:
    pasted, bare = scored(scan, NO_LPIPS), scored(scan, replace(NO_LPIPS, paste=False))
    assert bare["ssim", "masked"] < pasted["ssim", "masked"] - 0.01
    assert bare["psnr", "masked"] == pasted["psnr", "masked"]
    assert bare["ssim", "predicted"] == pasted["ssim", "predicted"]


def test_score_volume__of_an_exact_reconstruction(scan: dict[str, np.ndarray], alex: Lpips) -> None:
    found = scored({**scan, "reconstruction": scan["truth"].copy()}, Protocol(), alex)
    for region in ("predicted", "masked", "whole"):
        assert found["psnr", region] == math.inf
        assert found["ssim", region] == pytest.approx(1.0)
        assert found["lpips", region] == 0.0


@pytest.mark.parametrize("ssim", ["3d", "2d"])
def test_score_volume__no_unscored_voxel_influences_a_score(
    scan: dict[str, np.ndarray], alex: Lpips, ssim: str
) -> None:
    counts = np.zeros(SHAPE, bool)
    counts[:20, 3:, :30] = True
    protocol = Protocol(ssim=ssim)  # type: ignore[arg-type]
    scan["scored"] = counts
    before = scored(scan, protocol, alex)
    scan["reconstruction"][~counts] = np.nan
    assert scored(scan, protocol, alex) == pytest.approx(before, rel=0, abs=0, nan_ok=True)
    assert before["psnr", "predicted"] == pytest.approx(
        psnr(*(torch.from_numpy(scan[key][counts].clip(0, 1)) for key in ("reconstruction", "truth"))), abs=1e-4
    )
    assert 0 < before["ssim", "predicted"] < 1


def test_score_volume__clips_to_the_window_if_the_protocol_says_so(scan: dict[str, np.ndarray]) -> None:
    scan["truth"][:] = 1.0
    scan["reconstruction"][:] = 1.5
    assert scored(scan, NO_LPIPS)["psnr", "predicted"] == math.inf
    assert scored(scan, replace(NO_LPIPS, clip=False))["psnr", "predicted"] == pytest.approx(20 * np.log10(2), abs=1e-4)


def test_score_volume__lpips_of_predicted_is_the_mean_published_distance(
    scan: dict[str, np.ndarray], alex: Lpips
) -> None:
    found = scored(scan, Protocol(), alex)
    images = [torch.from_numpy(np.clip(scan[key], 0, 1))[:, None] * 2 - 1 for key in ("truth", "reconstruction")]
    assert found["lpips", "predicted"] == pytest.approx(alex(*images).mean().item(), abs=1e-5)
    assert found["lpips", "masked"] > 0
    assert found["lpips", "whole"] < found["lpips", "predicted"]


def test_score_volume__lpips_views_and_strides(scan: dict[str, np.ndarray], alex: Lpips) -> None:
    wide = {key: np.concatenate([value] * 2) for key, value in scan.items()}
    coronal = scored(wide, Protocol(lpips_views=("coronal",)), alex)["lpips", "predicted"]
    axial = scored(wide, Protocol(lpips_views=("axial",)), alex)["lpips", "predicted"]
    both = scored(wide, Protocol(lpips_views=("axial", "coronal")), alex)["lpips", "predicted"]
    assert both == pytest.approx((axial + coronal) / 2)
    all_three = scored(wide, Protocol(lpips_views=("axial", "coronal", "sagittal")), alex)["lpips", "predicted"]
    sagittal = scored(wide, Protocol(lpips_views=("sagittal",)), alex)["lpips", "predicted"]
    assert all_three == pytest.approx((axial + coronal + sagittal) / 3)
    turned = {key: np.ascontiguousarray(value.swapaxes(0, 1)) for key, value in wide.items()}
    assert scored(turned, Protocol(), alex)["lpips", "predicted"] == pytest.approx(coronal, abs=1e-5)
    sparse = {key: np.ascontiguousarray(value[2::5]) for key, value in wide.items()}
    stride = scored(wide, Protocol(lpips_every=5), alex)
    assert stride["lpips", "masked"] == pytest.approx(scored(sparse, Protocol(), alex)["lpips", "masked"], abs=1e-5)


def test_score_volume__does_not_depend_on_the_batch(scan: dict[str, np.ndarray], alex: Lpips) -> None:
    scan["mask"][:10] = True
    few, many = (scored(scan, Protocol(batch=batch), alex) for batch in (3, 100))
    assert few == pytest.approx(many, abs=1e-6)


def test_score_volume__of_a_scan_that_is_too_thin_is_undefined_not_wrong(
    scan: dict[str, np.ndarray], alex: Lpips
) -> None:
    thin = {key: np.ascontiguousarray(value[:, :30, :9]) for key, value in scan.items()}
    found = scored(thin, Protocol(), alex)
    assert math.isfinite(found["psnr", "predicted"])
    assert math.isnan(found["ssim", "predicted"])
    assert math.isnan(found["lpips", "predicted"])


def test_score_volume__without_masked_voxels_leaves_the_masked_region_undefined(scan: dict[str, np.ndarray]) -> None:
    scan["mask"][:] = False
    found = scored(scan, NO_LPIPS)
    assert math.isnan(found["psnr", "masked"])
    assert math.isnan(found["ssim", "masked"])
    assert found["psnr", "whole"] == math.inf


def test_score_volume__scores_only_the_regions_of_the_protocol(scan: dict[str, np.ndarray]) -> None:
    assert {region for _, region in scored(scan, replace(NO_LPIPS, regions=("masked",)))} == {"masked"}


def test_score_volume__has_no_predicted_region_for_what_passes_visible_voxels_on(scan: dict[str, np.ndarray]) -> None:
    rows = score_volume(*(scan[place] for place in PLACES), NO_LPIPS, predicts_visible=False)
    assert {row.region for row in rows} == {"masked", "whole"}


def test_score_volume__whole_does_not_see_the_networks_visible_voxels(scan: dict[str, np.ndarray]) -> None:
    before = scored(scan, NO_LPIPS)
    scan["reconstruction"] = np.where(scan["mask"], scan["reconstruction"], 0.5).astype(np.float32)
    after = scored(scan, NO_LPIPS)
    changed = {key for key in before if before[key] != after[key] and not math.isnan(before[key])}
    assert changed == {("psnr", "predicted"), ("ssim", "predicted")}


def test_score_volume__measures_errors_in_the_scored_window(scan: dict[str, np.ndarray]) -> None:
    narrow = replace(NO_LPIPS, scored_window=Window(-500.0, 500.0))
    clipped = [np.clip(2 * np.clip(scan[key], 0, 1) - 0.5, 0, 1) for key in ("truth", "reconstruction")]
    squared = np.subtract(*clipped, dtype=np.float64) ** 2
    assert scored(scan, narrow)["psnr", "predicted"] == pytest.approx(-10 * np.log10(squared.mean()), abs=1e-4)


def test_score_volume__without_a_network_leaves_lpips_out(scan: dict[str, np.ndarray]) -> None:
    assert {metric for metric, _ in scored(scan, Protocol())} == set(METRICS) - {"lpips"}


def test_score_volume__refuses_a_reconstruction_that_is_not_finite(scan: dict[str, np.ndarray]) -> None:
    scan["reconstruction"][3, 4, 5] = np.nan
    with pytest.raises(ConfigError, match="NaN"):
        scored(scan, NO_LPIPS)


def test_score_volume__refuses_another_backbone(scan: dict[str, np.ndarray], alex: Lpips) -> None:
    with pytest.raises(ConfigError, match="squeeze"):
        scored(scan, Protocol(lpips="squeeze"), alex)
