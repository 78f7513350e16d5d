"""`maesil compare` through the public command: every model trained, scored, written, resumed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from maesil import pipeline
from maesil.comparison import compare, experiment
from maesil.comparison.budget import Budget
from maesil.comparison.model_sets import ModelSet
from maesil.comparison.result import OWN_MASKS, VISIBLE
from maesil.comparison.spec import Spec, parse_models
from maesil.comparison.standing import standing
from maesil.config import RunConfig, load_yaml
from maesil.errors import CheckpointError, ConfigError, StoreError, WeightsError
from maesil.evaluation import runner
from maesil.evaluation.protocol import Protocol
from maesil.models.interpolation import Interpolation
from maesil.training.logs import read_log

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PROTOCOL = Protocol(lpips=None)
STEPS = Budget("steps", 4.0)
SMALL = "channels=[8, 16]:latent_channels=4"


def model_set(*words: str) -> ModelSet:
    return ModelSet("test", parse_models(words))


@pytest.mark.slow
def test_compare__trains_scores_and_takes_up_what_is_done(tiny_config: RunConfig, tmp_path: Path) -> None:
    words = ("maesil", f"ae:{SMALL}", f"vae:{SMALL}", f"vqvae:{SMALL}:codes=16", "slice_mae", "interpolation", "mean")
    budget, out = Budget("steps", 4.0), tmp_path / "out"
    comparison, page = pipeline.compare(tiny_config, model_set(*words), budget, out, protocol=PROTOCOL)
    assert page.is_file()
    assert [result.failed for result in comparison.results] == [None] * len(words)
    assert {score.model for score in comparison.scores} >= {f"ae:{SMALL}", f"ae:{SMALL}, masked input", "slice_mae"}
    for result in comparison.results[:5]:
        assert result.cost is not None
        assert (result.cost.steps, result.cost.superpatches) == (4, 8)
        assert result.cost.flops > 0
        assert result.cost.latent_elements
        assert result.cost.seconds > 0
    protocols = {score.protocol for score in comparison.scores}
    assert len(protocols) == 1

    logs = [result.run / "logs" / "metrics.csv" for result in comparison.results if result.run is not None]
    before = [path.stat().st_mtime_ns for path in logs]
    again, _ = pipeline.compare(tiny_config, model_set(*words, "kriging"), budget, out, protocol=PROTOCOL)
    assert [path.stat().st_mtime_ns for path in logs] == before
    assert set(again.scores) >= set(comparison.scores)

    other = replace(tiny_config, seed=1)
    with pytest.raises(ConfigError, match="other settings: seed is 0 there, 1 here"):
        pipeline.compare(other, model_set(*words), budget, out, protocol=PROTOCOL)


def test_compare__trains_every_seed_and_goes_on_from_scores_alone(tiny_config: RunConfig, tmp_path: Path) -> None:
    words, budget, out = ("maesil", "mean"), Budget("steps", 2.0), tmp_path / "out"
    one, _ = pipeline.compare(tiny_config, model_set(*words), budget, out, protocol=PROTOCOL)
    two, _ = pipeline.compare(tiny_config, model_set(*words), budget, out, protocol=PROTOCOL, seeds=2)
    assert [result.seeds for result in two.results] == [(0, 1), ()]
    assert set(two.scores) > set(one.scores)
    assert {score.seed for score in two.scores if score.model == "maesil"} == {0, 1}
    values = {
        (s.seed, s.value) for s in two.scores if s.model == "maesil" and (s.metric, s.region) == ("psnr", "masked")
    }
    assert len({value for _, value in values}) == len(values)

    for run in (out / "models").rglob("run"):
        shutil.rmtree(run)
    kept = json.loads((out / "comparison.json").read_text())
    (out / "comparison.json").write_text(json.dumps({**kept, "sources": "of other scans"}))
    with pytest.raises(ConfigError, match="other settings: sources is "):
        pipeline.compare(tiny_config, model_set(*words), budget, out, protocol=PROTOCOL, seeds=2)
    (out / "comparison.json").write_text(json.dumps(kept))
    again, page = pipeline.compare(tiny_config, model_set(*words), budget, out, protocol=PROTOCOL, seeds=2)
    assert again.scores == two.scores
    assert [result.cost for result in again.results] == [result.cost for result in two.results]
    assert not list((out / "models").rglob("run"))
    assert page.is_file()


def test_compare__ours_beside_its_fast_recipe_at_equal_time(tiny_config: RunConfig, tmp_path: Path) -> None:
    fast = "maesil:decoder=cross:rebuilt_share=0.25"
    comparison, _ = pipeline.compare(
        tiny_config, model_set("maesil", fast), Budget("seconds", 1.0), tmp_path / "out", protocol=PROTOCOL
    )
    assert [result.failed for result in comparison.results] == [None, None]
    assert {score.model for score in comparison.scores} >= {"maesil", fast}
    plain, cheap = (result.cost for result in comparison.results)
    assert plain is not None
    assert cheap is not None
    assert cheap.flops < plain.flops


def test_compare__others_are_tested_against_what_a_user_gets_of_ours(tiny_config: RunConfig, tmp_path: Path) -> None:
    fused = "maesil:model.fusion.width=4"
    done, _ = pipeline.compare(
        tiny_config, model_set(fused, "mean"), Budget("steps", 2.0), tmp_path / "out", protocol=PROTOCOL
    )
    assert done.ours == f"{fused} + fusion"
    assert set(done.paired["entry"]) == {fused, "mean"}


def test_compare__a_model_that_fails_leaves_its_row(tiny_config: RunConfig, tmp_path: Path) -> None:
    broken = parse_models(["vqvae:channels=[8, 16]:latent_channels=4:codes=1:train.peak_lr=1e30"])[0]
    models = ModelSet("test", (broken, *parse_models(["mean"])))
    comparison, _ = pipeline.compare(tiny_config, models, Budget("steps", 4.0), tmp_path / "out", protocol=PROTOCOL)
    failed, kept = comparison.results
    assert failed.failed is not None
    assert "loss became" in failed.failed
    assert kept.failed is None
    assert {score.model for score in comparison.scores} == {"mean"}


def test_compare__any_failure_leaves_its_row_and_a_trace(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr(Interpolation, "reconstruct", broken)
    words, out = ("interpolation", "mean"), tmp_path / "out"
    comparison, _ = pipeline.compare(tiny_config, model_set(*words), Budget("steps", 4.0), out, protocol=PROTOCOL)
    failed, kept = comparison.results
    assert failed.failed == "ZeroDivisionError: nobody foresaw this"
    assert kept.failed is None
    trace = out / "models" / "interpolation" / "failure.txt"
    assert "in broken" in trace.read_text()
    monkeypatch.undo()
    comparison, _ = pipeline.compare(tiny_config, model_set(*words), Budget("steps", 4.0), out, protocol=PROTOCOL)
    assert comparison.results[0].failed is None
    assert not trace.exists()


def test_compare__of_rows_that_learn_nothing_claims_nothing(tiny_config: RunConfig, tmp_path: Path) -> None:
    words = ("mean", "kriging")
    comparison, page = pipeline.compare(
        tiny_config, model_set(*words), Budget("steps", 4.0), tmp_path / "out", protocol=PROTOCOL
    )
    assert comparison.budget == "no model is trained"
    text = (page.parent / "table2.md").read_text() + (page.parent / "table3.md").read_text()
    assert "Δ PSNR: the row minus mean, mean over scans" in text
    assert not [word for word in ("paper", "Paper", "ours") if word in text]
    assert not (page.parent / "cost.md").exists()
    assert standing(comparison) == ""
    shown = (page.parent / "table2.md").read_text(encoding="utf-8") + page.read_text(encoding="utf-8")
    assert not re.search("seen in pre|models saw|has not learnt|optimiser steps|>Training<", shown)


def test_compare__budgets_and_costs_count_every_device(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained_on_four(config: Path, run: Path) -> None:
        """One process does what four would log."""
        wanted = load_yaml(config)
        assert wanted.efficiency.devices == 4
        pipeline.pretrain(replace(wanted, efficiency=tiny_config.efficiency), run)
        for record in (run / "checkpoints").glob("*/config.json"):
            record.write_text(record.read_text().replace('"devices": "auto"', '"devices": 4'))

    monkeypatch.setattr(experiment, "pretrain_apart", trained_on_four)
    four = replace(tiny_config, efficiency=replace(tiny_config.efficiency, devices=4))
    out = tmp_path / "out"
    comparison, _ = pipeline.compare(four, model_set("maesil"), Budget("flops", 1e8), out, protocol=PROTOCOL)
    assert comparison.settings["Training"]["batch"] == "8"
    assert "The test patient was not seen in pre-training, by name or source." in comparison.notes
    (result,) = comparison.results
    assert result.cost is not None
    assert result.cost.steps == int(1e8 / (result.cost.flops * 8))
    assert result.cost.superpatches == result.cost.steps * 8


def test_compare__from_weights_that_have_seen_a_test_patient_says_so(tiny_config: RunConfig, tmp_path: Path) -> None:
    """Other models start from random weights, as nothing of these fits them."""
    patients = replace(tiny_config.data.holdout.patients, overrides={"c": "val", "d": "train", "a": "test"})
    holdout = replace(tiny_config.data.holdout, patients=patients)
    pipeline.pretrain(replace(tiny_config, data=replace(tiny_config.data, holdout=holdout)), tmp_path / "run")
    preset = replace(tiny_config, init=str(tmp_path / "run"))
    models = model_set("maesil", f"ae:{SMALL}")
    comparison, page = pipeline.compare(preset, models, Budget("steps", 1.0), tmp_path / "out", protocol=PROTOCOL)
    assert [result.failed for result in comparison.results] == [None, None]
    assert any(note.startswith("The models saw the test patient in training") for note in comparison.notes)
    assert comparison.settings["Training"]["start of maesil"] == str(tmp_path / "run")
    assert str(tmp_path / "run") in page.read_text()


def test_pretrain__logs_the_use_of_the_codebook(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = parse_models([f"vqvae:{SMALL}:codes=16"])[0].configure(tiny_config)
    pipeline.pretrain(replace(config, train=replace(config.train, steps=4)), tmp_path / "run")
    rows = [row for row in read_log(tmp_path / "run" / "logs" / "metrics.csv") if row["loss"]]
    assert [int(row["step"]) for row in rows] == [2, 4]
    for row in rows:
        assert 1 / 16 <= float(row["codebook_usage"]) <= 1
        assert 1 <= float(row["codebook_perplexity"]) <= 16


@pytest.mark.slow
def test_compare__other_masks_are_scored_under_the_common_ones_and_their_own(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    models = ModelSet("test", (Spec("uniform", "maesil", {"masking.name": "uniform", "masking.mask_ratio": 0.5}),))
    comparison, _ = pipeline.compare(tiny_config, models, Budget("steps", 2.0), tmp_path / "out", protocol=PROTOCOL)
    assert comparison.results[0].entries == {"uniform": VISIBLE, "uniform, own masks": OWN_MASKS}


@pytest.mark.slow
def test_compare__seconds_and_flops_buy_steps(tiny_config: RunConfig, tmp_path: Path) -> None:
    for budget in (Budget("seconds", 0.5), Budget("flops", 5e7)):
        out = tmp_path / budget.unit
        comparison, _ = pipeline.compare(tiny_config, model_set("maesil"), budget, out, protocol=PROTOCOL)
        cost = comparison.results[0].cost
        assert cost is not None
        decided = json.loads((out / "models" / "maesil" / "budget.json").read_text())["steps"]
        assert read_log(out / "models" / "maesil" / "run" / "logs" / "metrics.csv")
        if budget.unit == "flops":
            assert decided == int(5e7 / (cost.flops * tiny_config.train.batch))
        assert decided >= 1


def test_compare__every_row_is_scored_under_the_masks_that_the_protocol_names(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    protocol = replace(PROTOCOL, masks="uniform", mask_draws=1)
    words = ("kriging", "mean")
    found, _ = pipeline.compare(
        tiny_config, model_set(*words), Budget("steps", 2.0), tmp_path / "out", protocol=protocol
    )
    assert found.sees == dict.fromkeys(words, VISIBLE)
    assert any("uniform masks" in score.described for score in found.scores)


def test_compare__refuses_before_it_trains(tiny_config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown setting"):
        pipeline.compare(tiny_config, model_set("maesil", "ae:nothing=1"), Budget("steps", 4.0), tmp_path / "out")
    nobody = replace(tiny_config.data.holdout.patients, overrides={})
    empty = replace(
        tiny_config, data=replace(tiny_config.data, holdout=replace(tiny_config.data.holdout, patients=nobody))
    )
    with pytest.raises(StoreError, match="split 'test'"):
        pipeline.compare(empty, model_set("maesil"), Budget("steps", 4.0), tmp_path / "out")
    wrong = replace(tiny_config.data.holdout.patients, overrides={"c": "val", "dd": "test"})
    typed = replace(
        tiny_config, data=replace(tiny_config.data, holdout=replace(tiny_config.data.holdout, patients=wrong))
    )
    with pytest.raises(ConfigError, match="no patient is called 'dd'"):
        pipeline.compare(typed, model_set("maesil"), Budget("steps", 4.0), tmp_path / "out")
    nowhere = replace(tiny_config, data=replace(tiny_config.data, store=None))
    with pytest.raises(ConfigError, match="no store"):
        pipeline.compare(nowhere, model_set("maesil"), Budget("steps", 4.0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_compare__refuses_a_model_that_cannot_be_made_before_others_train(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="5 heads do not divide a width of 24") as refused:
        pipeline.compare(tiny_config, model_set("mean", "maesil:encoder_heads=5"), STEPS, tmp_path / "out")
    assert refused.value.what.startswith("model 'maesil:encoder_heads=5': ")
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=1)), tmp_path / "run")
    preset = replace(tiny_config, init=str(tmp_path / "run"))
    with pytest.raises(CheckpointError, match="weights do not fit this model"):
        pipeline.compare(preset, model_set("mean", "maesil:encoder_width=48"), STEPS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("maesil", f"ae:{SMALL}"), f"2 models: maesil, ae:{SMALL}; 4 optimiser steps per model"),
        (("mean",), "1 model: mean; no model is trained"),
    ],
)
def test_compare__names_its_models_and_budget_before_it_trains(
    words: tuple[str, ...], told: str, tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trains(*args: object) -> list[Any]:
        raise RuntimeError("training begins")

    monkeypatch.setattr(compare, "run_models", trains)
    screen = Console(record=True, width=200)
    with pytest.raises(RuntimeError, match="training begins"):
        pipeline.compare(tiny_config, model_set(*words), STEPS, tmp_path / "out", protocol=PROTOCOL, console=screen)
    assert told in screen.export_text()


def test_compare__names_earlier_models_that_its_tables_no_longer_show(tiny_config: RunConfig, tmp_path: Path) -> None:
    def said(*words: str) -> str:
        screen = Console(record=True, width=300)
        pipeline.compare(tiny_config, model_set(*words), STEPS, tmp_path / "out", protocol=PROTOCOL, console=screen)
        return screen.export_text()

    assert "earlier" not in said("mean", "interpolation") + said("mean", "interpolation", "kriging")
    told = "warning: results of earlier models are kept, and the new tables and page leave them out"
    assert f"{told}: interpolation, kriging; name them in --models, too, to show them" in said("mean")


def test_compare__says_before_it_trains_that_lpips_is_left_out(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*args: object) -> None:
        raise WeightsError("no weights here", fix="fetch them")

    def trains(*args: object) -> list[Any]:
        raise RuntimeError("training begins")

    monkeypatch.setattr(runner, "load_lpips", missing)
    monkeypatch.setattr(compare, "run_models", trains)
    screen = Console(record=True, width=200)
    with pytest.raises(RuntimeError, match="training begins"):
        pipeline.compare(tiny_config, model_set("mean"), STEPS, tmp_path / "out", console=screen)
    assert "warning: LPIPS is left out: no weights here; fetch them" in screen.export_text()


def test_compare__names_the_weights_that_do_not_exist(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny_config, init=str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError) as refused:
        pipeline.compare(config, model_set("maesil"), STEPS, tmp_path / "out")
    assert str(tmp_path / "nowhere") in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("superpatch=[64, 64, 64]", "model.superpatch"),
        ("data.window.low_hu=-500", "data.window"),
        ("data.store=/elsewhere", "data.store"),
        ("data.holdout.by=superpatch", "data.holdout"),
    ],
)
def test_compare__refuses_what_cannot_be_scored_with_the_others(
    setting: str, named: str, tiny_config: RunConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{named} differs from the other models'"):
        pipeline.compare(tiny_config, model_set("maesil", f"ae:{SMALL}:{setting}"), STEPS, tmp_path / "out")
    assert not (tmp_path / "out").exists()
