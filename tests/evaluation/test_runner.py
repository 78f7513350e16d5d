"""Whole scans scored under several mask draws."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TINY_MODEL
from maesil import pipeline
from maesil.config import RunConfig
from maesil.evaluation.protocol import PROTOCOLS, Protocol
from maesil.evaluation.runner import held_out, rebuild_region, score_models
from maesil.evaluation.scores import Score, read_scores
from maesil.models import UNTRAINED, Reconstructor, make_model
from maesil.sampling.regions import Region, regions_of
from maesil.store.scanstore import ScanStore

PROTOCOL = Protocol(lpips=None, mask_draws=3)


@pytest.fixture
def held(tiny_config: RunConfig, tiny_store: Path) -> tuple[ScanStore, tuple[Region, ...]]:
    store = ScanStore(tiny_store)
    return store, regions_of(store, tiny_config.data, TINY_MODEL.superpatch, "test")


@pytest.fixture
def models(tiny_config: RunConfig) -> dict[str, Reconstructor]:
    torch.manual_seed(0)
    ours = make_model(tiny_config.model, tiny_config.masking).eval()
    return {"maesil": ours, "kriging": UNTRAINED["kriging"](TINY_MODEL.grid, tiny_config.masking)}


def by_key(scores: tuple[Score, ...]) -> dict[tuple[str, str, str, str], Score]:
    return {(score.scan, score.model, score.metric, score.region): score for score in scores}


def test_score_models__pools_the_draws_of_a_scan(
    held: tuple[ScanStore, tuple[Region, ...]], models: dict[str, Reconstructor]
) -> None:
    store, regions = held
    pooled = by_key(score_models(models, store, regions, PROTOCOL).scores)
    key = (regions[0].entry.scan_id, "kriging", "psnr", "masked")
    draws = []
    for draw in range(3):
        rebuilt = rebuild_region(models["kriging"], store, regions[0], PROTOCOL, draw)
        error = (rebuilt.reconstruction.clip(0, 1) - rebuilt.truth)[rebuilt.mask]
        draws.append(float(-10 * torch.from_numpy(error).double().square().mean().log10()))
    assert len({round(value, 6) for value in draws}) == 3
    error = sum(10 ** (-value / 10) for value in draws) / 3
    assert pooled[key].value == pytest.approx(-10 * math.log10(error), abs=1e-4)
    assert pooled[key].spread == pytest.approx(statistics.stdev(draws), abs=1e-4)
    assert pooled[key].draws == 3
    assert all(
        math.isfinite(row.spread) for row in pooled.values() if row.metric == "ssim" and math.isfinite(row.value)
    )


def test_score_models__the_first_draw_is_the_only_one_of_a_protocol_with_one(
    held: tuple[ScanStore, tuple[Region, ...]], models: dict[str, Reconstructor]
) -> None:
    store, regions = held
    one = by_key(score_models(models, store, regions, replace(PROTOCOL, mask_draws=1)).scores)
    assert all(math.isnan(row.spread) and row.draws == 1 for row in one.values())


def test_score_models__rows_that_pass_visible_voxels_on_have_no_predicted_region(
    held: tuple[ScanStore, tuple[Region, ...]], models: dict[str, Reconstructor]
) -> None:
    store, regions = held
    found = score_models(models, store, regions, replace(PROTOCOL, mask_draws=1)).scores
    assert {row.model for row in found if row.region == "predicted"} == {"maesil"}
    assert {row.model for row in found if row.region == "whole"} == {"maesil", "kriging"}


def test_score_models__unmasked_shows_the_network_everything(
    held: tuple[ScanStore, tuple[Region, ...]], models: dict[str, Reconstructor]
) -> None:
    store, regions = held
    protocol = replace(PROTOCOLS["unmasked"](), lpips=None)
    rebuilt = rebuild_region(models["maesil"], store, regions[0], protocol)
    assert not rebuilt.mask.any()
    found = score_models(models, store, regions, protocol).scores
    assert {(row.model, row.region) for row in found} == {("maesil", "predicted")}


def test_score_models__writes_the_training_seed(
    held: tuple[ScanStore, tuple[Region, ...]], models: dict[str, Reconstructor]
) -> None:
    store, regions = held
    found = score_models({"maesil": models["maesil"]}, store, regions, replace(PROTOCOL, mask_draws=1), seed=7).scores
    assert {row.seed for row in found} == {7}


def test_score_models__writes_the_sizes_of_superpatches_and_of_the_masks_patches(
    held: tuple[ScanStore, tuple[Region, ...]], models: dict[str, Reconstructor]
) -> None:
    store, regions = held
    one, protocol = {"kriging": models["kriging"]}, replace(PROTOCOL, mask_draws=1)
    assert {row.grid for row in score_models(one, store, regions, protocol).scores} == {"32x32x32 / 8x8x8"}
    found = score_models(one, store, regions, protocol, patch=(1, 8, 8)).scores
    assert {row.grid for row in found} == {"32x32x32 / 1x8x8"}


def test_rebuild_region__of_held_out_superpatches_alone_agrees_with_the_whole_scan_there(
    tiny_config: RunConfig, tiny_store: Path, models: dict[str, Reconstructor]
) -> None:
    store = ScanStore(tiny_store)
    holdout = replace(tiny_config.data.holdout, by="superpatch", test_superpatches=1, held_tissue=0.0)
    data = replace(tiny_config.data, holdout=holdout)
    region = next(one for one in regions_of(store, data, TINY_MODEL.superpatch, "test") if len(one.tiling) > 1)
    whole, part = (
        rebuild_region(models["maesil"], store, region, PROTOCOL, scored_only=alone) for alone in (False, True)
    )
    held = held_out(region)
    assert 0 < held.sum() < held.size
    np.testing.assert_array_equal(part.truth, whole.truth)
    np.testing.assert_array_equal(part.mask, whole.mask & held)
    np.testing.assert_allclose(part.reconstruction[held], whole.reconstruction[held], atol=1e-5)


def test_evaluate__unmasked_scores_do_not_take_the_place_of_masked_ones(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=2)), run)
    masked = pipeline.evaluate(run, protocol=replace(PROTOCOL, mask_draws=1))
    unmasked = pipeline.evaluate(run, protocol=replace(PROTOCOLS["unmasked"](), lpips=None))
    whole = pipeline.evaluate(run, protocol=replace(PROTOCOLS["whole_scan"](), lpips=None, mask_draws=1))
    names = [one.folder.name for one in (masked, unmasked, whole)]
    assert names == ["test", "test-unmasked", "test-whole-scan"]
    assert {row.model for row in whole.scores} == {row.model for row in masked.scores}
    assert whole.scores[0].protocol != masked.scores[0].protocol
    assert {row.region for row in unmasked.scores} == {"predicted"}
    assert {row.region for row in read_scores(masked.folder / "scores.jsonl")} == {"masked", "whole", "predicted"}
