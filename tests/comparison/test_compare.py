"""`maesil compare` through the public command: every model trained, scored, written, resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maesil import pipeline
from maesil.comparison.budget import Budget
from maesil.comparison.presets import Lineup
from maesil.comparison.spec import Spec, parse_models
from maesil.config import RunConfig
from maesil.errors import ConfigError, StoreError
from maesil.evaluation.protocol import Protocol
from maesil.training.logs import read_log

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PROTOCOL = Protocol(lpips=None)
SMALL = "channels=[8, 16]:latent_channels=4"


def lineup(*words: str) -> Lineup:
    return Lineup("test", parse_models(words))


@pytest.mark.slow
def test_compare__trains_scores_and_takes_up_what_is_done(tiny_config: RunConfig, tmp_path: Path) -> None:
    words = ("maesil", f"ae:{SMALL}", f"vae:{SMALL}", f"vqvae:{SMALL}:codes=16", "slice_mae", "interpolation", "mean")
    budget, out = Budget("steps", 4.0), tmp_path / "out"
    comparison, page = pipeline.compare(tiny_config, lineup(*words), budget, out, protocol=PROTOCOL)
    assert page.is_file()
    assert [entrant.failed for entrant in comparison.entrants] == [None] * len(words)
    assert {score.model for score in comparison.scores} >= {f"ae:{SMALL}", f"ae:{SMALL}, masked input", "slice_mae"}
    for entrant in comparison.entrants[:5]:
        assert entrant.cost is not None
        assert (entrant.cost.steps, entrant.cost.superpatches) == (4, 8)
        assert entrant.cost.flops > 0
        assert entrant.cost.latent_elements > 0
        assert entrant.cost.seconds > 0
    protocols = {score.protocol for score in comparison.scores}
    assert len(protocols) == 1

    logs = [entrant.run / "logs" / "metrics.csv" for entrant in comparison.entrants if entrant.run is not None]
    before = [path.stat().st_mtime_ns for path in logs]
    again, _ = pipeline.compare(tiny_config, lineup(*words, "kriging"), budget, out, protocol=PROTOCOL)
    assert [path.stat().st_mtime_ns for path in logs] == before
    assert set(again.scores) >= set(comparison.scores)

    other = replace(tiny_config, seed=1)
    with pytest.raises(ConfigError, match="other settings: seed"):
        pipeline.compare(other, lineup(*words), budget, out, protocol=PROTOCOL)


def test_compare__a_model_that_fails_leaves_its_row(tiny_config: RunConfig, tmp_path: Path) -> None:
    broken = parse_models(["vqvae:channels=[8, 16]:latent_channels=4:codes=1:train.peak_lr=1e30"])[0]
    models = Lineup("test", (broken, *parse_models(["mean"])))
    comparison, _ = pipeline.compare(tiny_config, models, Budget("steps", 4.0), tmp_path / "out", protocol=PROTOCOL)
    failed, kept = comparison.entrants
    assert failed.failed is not None
    assert "loss became" in failed.failed
    assert kept.failed is None
    assert {score.model for score in comparison.scores} == {"mean"}


@pytest.mark.slow
def test_compare__other_masks_are_scored_under_the_common_ones_and_their_own(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    models = Lineup("test", (Spec("uniform", "maesil", {"masking.name": "uniform", "masking.mask_ratio": 0.5}),))
    comparison, _ = pipeline.compare(tiny_config, models, Budget("steps", 2.0), tmp_path / "out", protocol=PROTOCOL)
    assert comparison.entrants[0].entries == ("uniform", "uniform, own masks")
    assert comparison.entrants[0].other_masks == ("uniform, own masks",)


@pytest.mark.slow
def test_compare__seconds_and_flops_buy_steps(tiny_config: RunConfig, tmp_path: Path) -> None:
    for budget in (Budget("seconds", 0.5), Budget("flops", 5e7)):
        out = tmp_path / budget.unit
        comparison, _ = pipeline.compare(tiny_config, lineup("maesil"), budget, out, protocol=PROTOCOL)
        cost = comparison.entrants[0].cost
        assert cost is not None
        decided = json.loads((out / "models" / "maesil" / "budget.json").read_text())["steps"]
        assert read_log(out / "models" / "maesil" / "run" / "logs" / "metrics.csv")
        if budget.unit == "flops":
            assert decided == int(5e7 / (cost.flops * tiny_config.train.batch))
        assert decided >= 1


def test_compare__refuses_before_it_trains(tiny_config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown setting"):
        pipeline.compare(tiny_config, lineup("maesil", "ae:nothing=1"), Budget("steps", 4.0), tmp_path / "out")
    nobody = replace(tiny_config.data.holdout.patients, overrides={})
    empty = replace(
        tiny_config, data=replace(tiny_config.data, holdout=replace(tiny_config.data.holdout, patients=nobody))
    )
    with pytest.raises(StoreError, match="split 'test'"):
        pipeline.compare(empty, lineup("maesil"), Budget("steps", 4.0), tmp_path / "out")
    nowhere = replace(tiny_config, data=replace(tiny_config.data, store=None))
    with pytest.raises(ConfigError, match="no store"):
        pipeline.compare(nowhere, lineup("maesil"), Budget("steps", 4.0), tmp_path / "out")
    assert not (tmp_path / "out").exists()
