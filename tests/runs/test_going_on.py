"""A run that becomes longer, moves with its store, or starts from the weights of another."""

from __future__ import annotations

import hashlib
import io
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from rich.console import Console

from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig, load_yaml
from maesil.datasets.splits import SplitConfig
from maesil.errors import CheckpointError, ConfigError, StoreError
from maesil.files import read_json
from maesil.models.fusion import FusionConfig
from maesil.runs.from_weights import initial_of, other_voxels
from maesil.runs.load import load_run
from maesil.runs.pretrain import settle
from maesil.runs.sides import side_warnings
from maesil.sampling.config import HoldoutConfig
from maesil.seen import seen_patients
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore
from maesil.training.checkpoint_folder import WEIGHTS
from maesil.training.logs import curve
from maesil.training.optimizer import rate_share, warmup_cosine


def steps(config: RunConfig, count: int) -> RunConfig:
    quick = replace(config.monitor, validate_every=0, log_every=1)
    return replace(config, train=replace(config.train, steps=count), monitor=quick)


def shown_by(config: RunConfig, run: Path) -> str:
    shown = io.StringIO()
    pipeline.pretrain(config, run, console=Console(file=shown, width=200))
    return shown.getvalue()


def test_rate_share__moves_from_the_shorter_schedule_to_the_longer() -> None:
    rates = [rate_share(step, 100, 0.1, [(30, 40)]) for step in range(100)]
    assert rates[:31] == [warmup_cosine(step, 40, 0.1) for step in range(31)]
    assert rates[37:] == [warmup_cosine(step, 100, 0.1) for step in range(37, 100)]
    changes = [abs(after - before) for before, after in pairwise(rates[30:38])]
    assert max(changes) < 0.15, "without a jump"
    twice = [rate_share(step, 200, 0.1, [(30, 40), (100, 100)]) for step in range(101)]
    assert twice == [*rates, 0.0]


def test_pretrain__a_run_with_a_fusion_becomes_longer(tiny_config: RunConfig, tmp_path: Path) -> None:
    """The network learns again, without its fusion; then the fusion goes on."""
    run = tmp_path / "run"
    fused = replace(tiny_config, model=replace(tiny_config.model, fusion=FusionConfig(width=4, share=0.5)))
    config = replace(fused, monitor=replace(fused.monitor, checkpoint_every=1))
    states = []
    for end in (4, 12):
        pipeline.pretrain(steps(config, end), run)
        states.append(load_run(run, device="cpu").model.state_dict())
    assert load_yaml(run / "config.yaml").lengthened == ((4, 4),)
    still = {name for name, weight in states[0].items() if torch.equal(weight, states[1][name])}
    assert not [name for name in still if name.startswith(("fusion.network.", "encoder.blocks", "decoder.blocks"))]
    at, rates = curve(run / "logs" / "metrics.csv", "learning_rate")
    assert rates[at.index(4) :][:2] == pytest.approx([0.0, 1e-3 * warmup_cosine(5, 6, 0.05)]), "as of a run of 12"
    fusion_alone = [2e-3 * warmup_cosine(step, 6, 0.05) for step in range(7)]
    assert rates[at.index(6) :] == pytest.approx(fusion_alone, abs=1e-12)


def test_pretrain__a_finished_run_becomes_longer(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.pretrain(steps(tiny_config, 4), run)
    ended = load_run(run, device="cpu").model.state_dict()
    shutil.copytree(run, tmp_path / "kept", symlinks=True)
    assert main(["pretrain", "--run", str(run), "--train.steps", "10"]) == 0
    config = load_yaml(run / "config.yaml")
    assert config.lengthened == ((4, 4),)
    assert pipeline.pretrain(config, run).status == "already finished"
    at, rates = curve(run / "logs" / "metrics.csv", "learning_rate")
    assert at == list(range(1, 11))
    assert rates == pytest.approx([1e-3 * rate_share(step, 10, 0.05, [(4, 4)]) for step in range(1, 11)])
    card = (run / "checkpoints" / "last" / "card.md").read_text()
    assert "made longer at step 4: from 4 to 10 steps" in card
    with pytest.raises(ConfigError, match=r"other settings: train\.steps is 10 there, 6 here"):
        pipeline.pretrain(steps(tiny_config, 6), run)
    # The settings of its beginning make it longer, too, and from the same weights.
    kept = tmp_path / "kept"
    assert all(torch.equal(load_run(kept, device="cpu").model.state_dict()[name], ended[name]) for name in ended)
    assert "made longer: from 4 to 10 steps" in shown_by(steps(tiny_config, 10), kept)
    first, second = (load_run(each, device="cpu").model.state_dict() for each in (run, kept))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pretrain__goes_on_with_a_copy_of_its_store(tiny_config: RunConfig, scans: Path, tmp_path: Path) -> None:
    assert tiny_config.data.store is not None
    store, run = tmp_path / "store", tmp_path / "run"
    shutil.copytree(tiny_config.data.store, store)
    config = steps(replace(tiny_config, data=replace(tiny_config.data, store=store)), 2)
    pipeline.pretrain(config, run)
    moved = tmp_path / "moved"
    store.rename(moved)
    with pytest.raises(StoreError, match=r"(?s)no longer there.*--data.store STORE; its manifest must be the same"):
        pipeline.pretrain(steps(config, 4), run)
    other = tmp_path / "other"
    prepare([scans], other, PrepareConfig(spacing_mm=3.0, salt="test"), workers=0)
    with pytest.raises(ConfigError, match=r"other settings: data\.store is \S*store there, \S*other here"):
        pipeline.pretrain(steps(replace(config, data=replace(config.data, store=other)), 4), run)
    outcome = pipeline.pretrain(steps(replace(config, data=replace(config.data, store=moved)), 4), run)
    assert (outcome.status, outcome.step) == ("finished", 4)
    assert load_yaml(run / "config.yaml").data.store == moved


def test_pretrain__starts_from_the_weights_of_a_run_or_an_export(tiny_config: RunConfig, tmp_path: Path) -> None:
    first, exported = tmp_path / "first", tmp_path / "exported"
    pipeline.pretrain(steps(tiny_config, 2), first)
    pipeline.export(first, "safetensors", exported)
    holdout = tiny_config.data.holdout
    overrides = {"a": "val", "b": "test"}
    others = replace(holdout, patients=replace(holdout.patients, overrides=overrides))
    store = ScanStore(tiny_config.data.store or Path())
    still = replace(tiny_config.train, peak_lr=1e-12, weight_decay=0.0)  # so that the weights remain
    for source, loaded in ((first, "all weights"), (exported, "the encoder's weights")):
        config = replace(tiny_config, train=still, data=replace(tiny_config.data, holdout=others), init=str(source))
        run = tmp_path / f"from-{source.name}"
        assert f"starts from {loaded} (" in shown_by(steps(config, 1), run)
        assert f"started from: {loaded}" in (run / "checkpoints" / "last" / "card.md").read_text()
        before, after = (load_run(each, device="cpu").model.state_dict() for each in (first, run))
        same = {name for name in before if torch.allclose(before[name], after[name], atol=1e-6)}
        encoder = {name for name in before if name.startswith("encoder.")}
        assert encoder <= same
        assert (same == set(before)) == (loaded == "all weights")
        pipeline.pretrain(steps(config, 2), run)  # the source is not needed again
        record = read_json(run / "checkpoints" / "last" / "config.json")
        assert record["init"]["loaded"].startswith(loaded)
        (weights,) = (found for found in (source, source / "checkpoints" / "last") if (found / WEIGHTS).is_file())
        assert record["init"]["sha256"] == hashlib.sha256((weights / WEIGHTS).read_bytes()).hexdigest()
        assert "init" not in record["config"], "a local path"
        assert seen_patients(record["seen"], store.entries) == {"a", "b", "c", "d"}
        assert seen_patients({**record["seen"], "before": None}, store.entries) is None


def test_pretrain__says_whom_the_weights_saw_and_whom_their_run_held_out(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    pipeline.pretrain(steps(tiny_config, 1), first)  # trained on a and b; c and d are held out

    def told(name: str, **holdout: object) -> str:
        config = replace(tiny_config, init=str(first))
        other = replace(config.data.holdout, **holdout)  # type: ignore[arg-type]
        return shown_by(steps(replace(config, data=replace(config.data, holdout=other)), 1), tmp_path / name)

    same, patients = told("same"), tiny_config.data.holdout.patients
    assert "warning: the weights" not in same
    assert "warning: the run of --init" not in same
    swapped = told("swapped", patients=replace(patients, overrides={"a": "val", "b": "test"}))
    assert "warning: the weights of --init were trained on all 2 patients whom this run holds out: scores" in swapped
    assert "warning: the run of --init held out 2 of this run's 2 training patients: its scores on them" in swapped
    by_superpatch = told("all", by="superpatch", patients=replace(patients, overrides={}))
    assert "warning: the run of --init held out 2 of this run's 4 training patients: its scores" in by_superpatch
    assert "were trained on scans of 2 of the 4 patients, and may have seen the superpatches" in by_superpatch


def test_side_warnings__of_another_store_name_only_whom_the_weights_saw(tiny_config: RunConfig, tmp_path: Path) -> None:
    """A patient whom the weights have not seen may be new there."""
    pipeline.pretrain(steps(tiny_config, 1), tmp_path / "first")
    initial = replace(initial_of(str(tmp_path / "first")), store="another")
    store = ScanStore(tiny_config.data.store or Path())
    patients = SplitConfig(fractions=(1.0, 0.0, 0.0), overrides={"a": "test"})
    config = replace(tiny_config, data=replace(tiny_config.data, holdout=HoldoutConfig(patients=patients)))
    (warning,) = side_warnings(initial, store, config)
    assert "trained on the patient whom this run holds out: scores on them say nothing" in warning
    assert side_warnings(replace(initial, seen=None), store, config) == []


def test_side_warnings__of_superpatches_that_were_held_out_before(tiny_config: RunConfig, tmp_path: Path) -> None:
    """Nothing is wrong if both runs hold out the same superpatches; those of another size may have been seen."""
    holdout = HoldoutConfig(by="superpatch", val_superpatches=0, test_superpatches=1)
    config = replace(tiny_config, data=replace(tiny_config.data, holdout=holdout))
    pipeline.pretrain(steps(config, 1), tmp_path / "first")
    initial, store = initial_of(str(tmp_path / "first")), ScanStore(tiny_config.data.store or Path())
    assert side_warnings(initial, store, config) == []
    more = replace(config, data=replace(config.data, holdout=replace(holdout, test_superpatches=2)))
    (warning,) = side_warnings(initial, store, more)
    assert "scans of all 4 patients, and may have seen the superpatches that are held out here" in warning
    assert len(side_warnings(replace(initial, holdout=None), store, config)) == 1, "exported weights"


def test_pretrain__names_the_spacing_of_weights_of_other_voxels(
    tiny_config: RunConfig, scans: Path, tmp_path: Path
) -> None:
    pipeline.pretrain(steps(tiny_config, 1), tmp_path / "first")
    prepare([scans], tmp_path / "other", PrepareConfig(spacing_mm=3.0, salt="test"), workers=0)
    data = replace(tiny_config.data, store=tmp_path / "other")
    shown = shown_by(steps(replace(tiny_config, data=data, init=str(tmp_path / "first")), 1), tmp_path / "run")
    assert "spacing_mm 2.0 against policy spacing, spacing_mm 3.0; `maesil prepare ... --spacing-mm 2` makes" in shown


def test_other_voxels__of_weights_and_of_stores_of_several_spacings(tiny_config: RunConfig, tmp_path: Path) -> None:
    pipeline.pretrain(steps(tiny_config, 1), tmp_path / "first")
    initial = initial_of(str(tmp_path / "first"))
    other = {**initial.voxels, "spacing_mm": 3.0}
    assert other_voxels(initial, initial.voxels) is None
    assert other_voxels(initial, other) is not None
    both = replace(initial, voxels={**initial.voxels, "also": [other]})
    assert other_voxels(both, other) is None


def test_settle__refuses_another_number_of_superpatches_per_step(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = steps(tiny_config, 1)
    pipeline.pretrain(config, tmp_path)
    longer = steps(tiny_config, 2)
    two = replace(longer, efficiency=replace(config.efficiency, devices=2))
    with pytest.raises(ConfigError, match="superpatches per step is 2 there, 4 here"):
        settle(two, tmp_path)
    halved = replace(two, train=replace(two.train, batch=1))
    assert settle(halved, tmp_path).train.steps == 2, "two devices with half of the batch each"


def test_pretrain__starts_from_a_run_with_another_fusion(tiny_config: RunConfig, tmp_path: Path) -> None:
    """The network is kept, decoder and all; only the fusion begins anew."""
    first, run = tmp_path / "first", tmp_path / "run"
    pipeline.pretrain(steps(tiny_config, 2), first)
    still = replace(tiny_config.train, peak_lr=1e-12, weight_decay=0.0)
    fused = replace(tiny_config.model, fusion=FusionConfig(width=2, share=0.5))  # type: ignore[type-var]
    config = replace(tiny_config, train=still, model=fused, init=str(first))
    assert "starts from all weights but the fusion's (" in shown_by(steps(config, 2), run)
    assert "- loss of the fusion: " in (run / "checkpoints" / "last" / "card.md").read_text(encoding="utf-8")
    before, after = (load_run(each, device="cpu").model.state_dict() for each in (first, run))
    assert all(torch.allclose(after[name], weight, atol=1e-6) for name, weight in before.items())
    assert {name.split(".")[0] for name in set(after) - set(before)} == {"fusion"}


def test_pretrain__weights_that_do_not_fit_are_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    first = tmp_path / "first"
    pipeline.pretrain(steps(tiny_config, 1), first)
    wider = replace(tiny_config, model=replace(tiny_config.model, encoder_width=36), init=str(first))  # type: ignore[type-var]
    with pytest.raises(CheckpointError, match=r"the encoder's weights do not fit this model: encoder\."):
        pipeline.pretrain(steps(wider, 1), tmp_path / "run")
    assert main(["pretrain", "demo", "--run", str(tmp_path / "run"), "--init", str(tmp_path / "nowhere")]) == 2
