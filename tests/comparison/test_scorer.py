"""Who hides which voxels, and scores that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import TINY_MODEL
from maesil.comparison.result import EVERYTHING, OWN_MASKS, TOLD, VISIBLE
from maesil.comparison.scorer import MARK, SCORES, Scorer, answers
from maesil.comparison.spec import Spec, parse_models
from maesil.config import RunConfig
from maesil.evaluation.protocol import Protocol
from maesil.models import UNTRAINED, make_model
from maesil.sampling.regions import regions_of
from maesil.store.scanstore import ScanStore


@pytest.fixture
def scorer(tiny_config: RunConfig, tiny_store: Path) -> Scorer:
    store = ScanStore(tiny_store)
    regions = regions_of(store, tiny_config.data, TINY_MODEL.superpatch, "test")
    return Scorer(store, regions, Protocol(lpips=None), TINY_MODEL.grid, tiny_config.masking)


SMALL = "channels=[8]:latent_channels=2"
UNIFORM = {"masking.name": "uniform", "masking.mask_ratio": 0.5}
PATCH_16 = {"model.patch": [16, 16, 16]}


@pytest.mark.parametrize(
    ("spec", "sees"),
    [
        (Spec("m", "maesil"), {"m": VISIBLE}),
        (Spec("m", "maesil", PATCH_16), {"m": OWN_MASKS}),
        (Spec("m", "maesil", {**PATCH_16, **UNIFORM}), {"m": OWN_MASKS}),
        (Spec("m", "maesil", UNIFORM), {"m": VISIBLE, "m, own masks": OWN_MASKS}),
        (Spec("m", "maesil", {"model.normalize_targets": True}), {"m": TOLD}),
        (parse_models([f"ae:{SMALL}"])[0], {"ae": EVERYTHING, "ae, masked input": VISIBLE}),
        (Spec("slices", "slice_mae"), {"slices": OWN_MASKS}),
        (Spec("slices", "slice_mae", {"model.masks": "shared", "model.patch": [1, 8, 8]}), {"slices": VISIBLE}),
        (
            Spec("slices", "slice_mae", {"model.masks": "shared", "model.patch": [1, 8, 8], **UNIFORM}),
            {"slices": OWN_MASKS},
        ),
    ],
    ids=lambda value: value.label + str(dict(value.settings)) if isinstance(value, Spec) else "",
)
def test_sees__tells_rows_with_other_voxels_apart(
    scorer: Scorer, tiny_config: RunConfig, spec: Spec, sees: dict[str, str]
) -> None:
    config = spec.configure(tiny_config)
    entries = scorer.entries(spec.label, make_model(config.model, config.masking))
    found = {name.replace(f"ae:{SMALL}", "ae"): scorer.sees(entry) for name, entry in entries.items()}
    assert found == sees


def test_answers__scores_with_more_metrics_are_taken_up_and_others_are_not() -> None:
    wanted = {"weights": "step 4", "metrics": ["psnr", "ssim"]}
    assert answers({"weights": "step 4", "metrics": ["psnr", "ssim", "lpips"]}, wanted)
    assert not answers({"weights": "step 4", "metrics": ["psnr"]}, wanted)
    assert not answers({"weights": "step 8", "metrics": ["psnr", "ssim"]}, wanted)


def cut_off(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def spoil(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (SCORES, spoil),
        (SCORES, cut_off),
        (SCORES, Path.unlink),
        (MARK, spoil),
        (MARK, lambda path: path.write_text("3")),
    ],
)
def test_score__damaged_files_are_scored_again(
    scorer: Scorer, tiny_config: RunConfig, tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    calls: list[str] = []
    fills = {
        label: UNTRAINED[label](tiny_config.model.grid, tiny_config.masking) for label in ("mean", "interpolation")
    }

    def scored() -> object:
        return scorer.score(fills, tmp_path, "untrained", lambda done, total, what: calls.append(what))

    first, work = scored(), 1 + 2 * scorer.protocol.mask_draws  # the work is named, then come two models of a scan
    assert len(calls) == work
    assert scored() == first
    assert len(calls) == work
    damage(tmp_path / name)
    assert scored() == first
    assert len(calls) == 2 * work
