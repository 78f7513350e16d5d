"""A segmentation trained, scored, resumed and predicted through the public commands."""

from __future__ import annotations

import io
import json
import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import nibabel
import numpy as np
import pytest
from rich.console import Console

from backbones import small_backbone, small_card
from conftest import TINY_MODEL
from labelled import CENTRES, counted_names, labelled_store, with_inclusion
from maesil import pipeline
from maesil.cli import main
from maesil.ct.write import is_marked
from maesil.errors import CheckpointError, ConfigError, EmptySplitError, StoreError
from maesil.export.targets import export
from maesil.models.transformer import Block
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.sampling.labelled import Classes, ForegroundPlan, LabelledDataset, annotated, marks_of
from maesil.sampling.plan import make_plan
from maesil.sampling.regions import Region, regions_of
from maesil.store.check import remove_scans
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation.config import FinetuneConfig, LabelsConfig, SegmentationConfig
from maesil.tasks.segmentation.division import divide, limited, regions_to_test
from maesil.tasks.segmentation.module import SegmentationModule
from maesil.tasks.segmentation.rates import require_validation, validation_dice
from maesil.tasks.segmentation.score import score_segmentation, windows_of
from maesil.tasks.segmentation.train import MissingLabelsWarning, ready_to_train
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig

MODEL = replace(TINY_MODEL, encoder_depth=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_store(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(small_backbone(MODEL), small_card(MODEL), "safetensors", tmp_path_factory.mktemp("encoder") / "out")


@pytest.fixture
def config(store: Path, encoder: Path) -> FinetuneConfig:
    holdout = HoldoutConfig()
    split = replace(holdout.patients, fractions=(1.0, 0.0, 0.0), overrides={"c": "val", "d": "test"})
    return FinetuneConfig(
        init=str(encoder),
        data=DataConfig(store=store, flip_axes=(), holdout=replace(holdout, patients=split)),
        train=TrainConfig(steps=6, batch=2, peak_lr=3e-3),
        monitor=MonitorConfig(validate_every=3, checkpoint_every=3, image_every=0, log_every=2),
        efficiency=EfficiencyConfig(accelerator="cpu", precision="32-true", threads=1),
    )


def flags(store: Path, encoder: Path, run: Path) -> list[str]:
    return [
        "finetune", "segmentation", "--init", str(encoder), "--data.store", str(store), "--run", str(run),
        "--data.holdout.patients.fractions", "1", "0", "0",
        "--data.holdout.patients.overrides", "c", "val", "d", "test",
        "--model.features", "8", "--train.steps", "120", "--train.batch", "2", "--train.peak-lr", "3e-3",
        "--monitor.validate-every", "30", "--efficiency.precision", "32-true",
    ]  # fmt: skip


def test_finetune__refuses_to_hold_out_somebody_who_is_not_there(config: FinetuneConfig, tmp_path: Path) -> None:
    split = replace(config.data.holdout.patients, overrides={"c": "val", "dd": "test"})
    holdout = replace(config.data.holdout, patients=split)
    with pytest.raises(ConfigError, match="no patient is called 'dd'"):
        pipeline.finetune_segmentation(replace(config, data=replace(config.data, holdout=holdout)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_commands__train_score_predict(
    store: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(flags(store, encoder, run)) == 0
    printed = capsys.readouterr()
    assert "| bright | 1 |" in printed.out
    assert "maesil predict" in printed.err
    shape = ScanStore(store).entry("scans-d").shape
    windows = windows_of(shape, (32, 32, 32))
    assert f"scoring  1 scan in {windows} windows of 32 x 32 x 32 voxels" in printed.err
    rows = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    assert {(row["scan"], row["class"]) for row in rows} == {("scans-d", "bright"), ("scans-d", "dark")}
    assert rows[0]["dice"] > 0.5, "a bright cube on dark ground is easy"
    out = tmp_path / "found.nii.gz"
    scan = store.parent / "scans" / "d.nii.gz"
    assert main(["predict", str(run), str(scan), "--out", str(out)]) == 0
    assert f"segmenting {windows}/{windows}  d.nii.gz" in capsys.readouterr().err
    assert is_marked(out)
    found, original = nibabel.load(out), nibabel.load(scan)
    assert np.allclose(found.affine, original.affine)
    assert found.shape == original.shape
    labels = np.asarray(nibabel.load(store.parent / "scans" / "d_labels.nii.gz").dataobj)
    marked = np.asarray(found.dataobj)
    overlap = 2 * ((marked == 1) & (labels == 1)).sum() / ((marked == 1).sum() + (labels == 1).sum())
    assert overlap == pytest.approx(rows[0]["dice"], abs=0.02), "on the scan's own grid, the same structure"
    assert json.loads((tmp_path / "found_classes.json").read_text()) == {"1": "bright", "2": "dark"}
    before = out.read_bytes()
    assert main(["predict", str(run), str(out), "--out", str(out)]) == 2
    assert "the scan's own" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert "segmentation" in (run / "checkpoints" / "last" / "card.md").read_text().lower()
    assert main(flags(store, encoder, run)) == 0
    assert "already finished" in capsys.readouterr().err


def test_finetune__resumes_where_it_stopped(config: FinetuneConfig, tmp_path: Path) -> None:
    """Six steps at once, and three and three: the same weights."""
    pipeline.finetune_segmentation(config, tmp_path / "whole")
    stopped = replace(config, train=replace(config.train, steps=6))
    run = tmp_path / "parts"
    with pytest.MonkeyPatch.context() as patch:
        from maesil.training.callbacks import GracefulStop

        original = GracefulStop.on_train_batch_end

        def stop_after_three(self: GracefulStop, trainer: object, *rest: object) -> None:
            self.requested = self.requested or trainer.global_step >= 3  # type: ignore[attr-defined]
            original(self, trainer, *rest)  # type: ignore[arg-type]

        patch.setattr(GracefulStop, "on_train_batch_end", stop_after_three)
        assert pipeline.finetune_segmentation(stopped, run).status == "interrupted"
    assert "\nresumed at step 3\n" in words_of(stopped, run)
    outcome = pipeline.finetune_segmentation(stopped, run)
    assert (outcome.status, outcome.step) == ("already finished", 6)
    weights = [
        (folder / "checkpoints" / "last" / "model.safetensors").read_bytes() for folder in (tmp_path / "whole", run)
    ]
    assert weights[0] == weights[1]


def test_finetune__other_settings_are_refused(config: FinetuneConfig, tmp_path: Path) -> None:
    pipeline.finetune_segmentation(config, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"other settings: labels\.classes is empty there, bright here"):
        pipeline.finetune_segmentation(replace(config, labels=LabelsConfig(classes=("bright",))), tmp_path / "run")


def test_finetune__goes_on_with_a_copy_of_its_store(config: FinetuneConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.finetune_segmentation(config, run)
    copy, other = tmp_path / "copy", tmp_path / "other"
    for place in (copy, other):
        shutil.copytree(config.data.store, place)
    remove_scans(other, [ScanStore(other).entries[0].scan_id])
    moved = replace(config, data=replace(config.data, store=copy))
    assert pipeline.finetune_segmentation(moved, run).status == "already finished"
    assert str(copy) in (run / "config.yaml").read_text()
    for wrong in (replace(config.data, store=other), replace(moved.data, min_tissue=0.5)):
        with pytest.raises(ConfigError, match=r"other settings: data\.(store|min_tissue) is ") as refused:
            pipeline.finetune_segmentation(replace(config, data=wrong), run)
        assert "a copy of the store with the same manifest" in str(refused.value)


def test_finetune__goes_on_from_another_folder(
    config: FinetuneConfig, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, elsewhere = tmp_path / "run", encoder.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    monkeypatch.chdir(encoder.parent)
    short = replace(config, init=encoder.name, train=replace(config.train, steps=1))
    pipeline.finetune_segmentation(short, run)
    assert f"init: {encoder}\n" in (run / "config.yaml").read_text()
    assert "init" not in json.loads((run / "checkpoints" / "last" / "config.json").read_text())["config"]
    assert "a pre-trained encoder" in (run / "checkpoints" / "last" / "card.md").read_text()
    assert score_segmentation(run).rows
    monkeypatch.chdir(elsewhere)
    outcome = pipeline.finetune_segmentation(replace(short, init=f"../{encoder.name}"), run)
    assert outcome.status == "already finished"
    monkeypatch.chdir(encoder.parent)
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace(f"init: {encoder}", f"init: {encoder.name}"))
    assert pipeline.finetune_segmentation(short, run).status == "already finished", "of an earlier version"


def test_score__a_store_that_is_gone(config: FinetuneConfig, tmp_path: Path) -> None:
    copy = shutil.copytree(config.data.only_store(""), tmp_path / "store")
    own = replace(config, data=replace(config.data, store=copy), train=replace(config.train, steps=1))
    pipeline.finetune_segmentation(own, tmp_path / "run")
    shutil.rmtree(copy)
    with pytest.raises(StoreError, match="no longer exists"):
        score_segmentation(tmp_path / "run")


def test_regions_to_test__needs_no_scan_to_train_on(config: FinetuneConfig) -> None:
    store, superpatch, holdout = ScanStore(config.data.only_store("")), TINY_MODEL.superpatch, config.data.holdout
    classes, scans = annotated(store, ())
    split = replace(holdout.patients, overrides=dict.fromkeys(CENTRES, "test"))
    every = replace(config, data=replace(config.data, holdout=replace(holdout, patients=split)))
    assert len(regions_to_test(store, classes, every, superpatch)) == 4
    with pytest.raises(StoreError, match="no labelled scan is in the split 'train'"):
        divide(store, scans, every, superpatch)


def test_score__another_store_that_lacks_a_class(config: FinetuneConfig, tmp_path: Path) -> None:
    """The run's classes count, though nobody named them; the error says which are missing and where."""
    run = tmp_path / "run"
    pipeline.finetune_segmentation(replace(config, train=replace(config.train, steps=1)), run)
    other = partly_marked(tmp_path, "unmarked")  # "dark" is not marked in d, which is tested
    missing = r"no test scan marks all of: bright, dark \(dark is missing in scans-d\)"
    with pytest.raises(StoreError, match=missing) as told:
        score_segmentation(run, store=other)
    assert told.value.where == str(other)
    assert "on a store that marks them" in str(told.value.fix)
    assert "--labels.classes" not in str(told.value.fix)

    nowhere = partly_marked(tmp_path / "nowhere", "unmarked", scans="abcd")
    with pytest.raises(StoreError, match=r"no labelled scan marks all of: bright, dark \(dark is missing in scans-a, "):
        score_segmentation(run, store=nowhere)


def test_score__another_store_that_marks_some_of_the_classes(config: FinetuneConfig, tmp_path: Path) -> None:
    """After a training on scans that mark some, such scans are scored; also if no scan of the store marks all."""
    run, labels = tmp_path / "run", LabelsConfig(partial=True)
    pipeline.finetune_segmentation(replace(config, labels=labels, train=replace(config.train, steps=1)), run)
    bright, dark = score_segmentation(run, store=partly_marked(tmp_path, "unmarked", scans="abcd")).rows
    assert (bright["class"], math.isnan(bright["dice"])) == ("bright", False)
    assert (dark["class"], math.isnan(dark["dice"])) == ("dark", True)


def test_finetune__frozen_keeps_the_encoder(config: FinetuneConfig, encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    frozen = replace(
        config, model=replace(config.model, mode="frozen", features=4), train=replace(config.train, steps=2)
    )
    pipeline.finetune_segmentation(frozen, tmp_path / "run")
    trained = load_file(tmp_path / "run" / "checkpoints" / "last" / "model.safetensors")
    for name, tensor in load_file(encoder / "model.safetensors").items():
        assert trained[f"backbone.{name}"].equal(tensor), name


def test_finetune__a_u_net_is_saved_and_scored_like_the_others(config: FinetuneConfig, tmp_path: Path) -> None:
    wanted = replace(config, model=SegmentationConfig(mode="unet", features=4))
    with pytest.raises(ConfigError, match='mode "unet" does not use the encoder'):
        pipeline.finetune_segmentation(wanted, tmp_path / "run")
    wanted = replace(wanted, random_start=True)
    assert pipeline.finetune_segmentation(wanted, tmp_path / "run").step == 6
    assert [row["class"] for row in score_segmentation(tmp_path / "run").rows] == ["bright", "dark"]
    assert "random weights" in (tmp_path / "run" / "checkpoints" / "last" / "card.md").read_text()


def test_finetune__random_start_has_the_same_shape_and_other_weights(config: FinetuneConfig, tmp_path: Path) -> None:
    from maesil.encoder.start import starting_point

    store = ScanStore(config.data.store)
    pretrained, card = starting_point(config.init, config.preset, store, random_start=False)
    scratch, same = starting_point(config.init, config.preset, store, random_start=True)
    assert same.seen is not None
    assert same.seen["patients"] == [], "random weights saw nobody"
    assert replace(same, seen=card.seen) == card
    assert not scratch.encoder.embed.weight.equal(pretrained.encoder.embed.weight)
    preset, _ = starting_point("none", "demo", store, random_start=False)
    assert preset.width == 192


def rates_of(config: FinetuneConfig, run: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Parameter name to its peak learning rate in the optimiser that a training is given."""
    found: dict[str, float] = {}

    def fit(module: SegmentationModule, *rest: object) -> str:
        module.trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
        groups = module.make_optimizer(fused=False).param_groups
        rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
        found.update({name: rates[parameter] for name, parameter in module.model.named_parameters()})
        return "finished"

    monkeypatch.setattr("maesil.tasks.segmentation.train.fit", fit)
    pipeline.finetune_segmentation(replace(config, model=replace(config.model, features=4)), run)
    return found


def test_finetune__random_weights_learn_at_one_rate(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = config.train.peak_lr
    scratch = rates_of(replace(config, random_start=True), tmp_path / "scratch", monkeypatch)
    assert set(scratch.values()) == {peak}
    none = rates_of(replace(config, init="none", preset="demo"), tmp_path / "none", monkeypatch)
    assert set(none.values()) == {peak}
    pretrained = rates_of(config, tmp_path / "pretrained", monkeypatch)
    assert pretrained["backbone.encoder.embed.weight"] == pytest.approx(peak * 0.75**3)
    assert pretrained["decoder.out.conv.conv.weight"] == peak
    asked = replace(config, random_start=True, model=replace(config.model, layer_decay=0.5))
    assert rates_of(asked, tmp_path / "asked", monkeypatch)["backbone.encoder.embed.weight"] == pytest.approx(peak / 8)


def test_finetune__recomputes_blocks_if_asked(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks: list[bool] = []

    def fit(module: SegmentationModule, *rest: object) -> str:
        blocks.extend(one.recompute for one in module.model.modules() if isinstance(one, Block))
        return "finished"

    monkeypatch.setattr("maesil.tasks.segmentation.train.fit", fit)
    pipeline.finetune_segmentation(
        replace(config, efficiency=replace(config.efficiency, recompute=True)), tmp_path / "run"
    )
    assert blocks
    assert all(blocks)


def test_finetune__voxels_unlike_the_pretraining(config: FinetuneConfig, tmp_path: Path) -> None:
    card = replace(small_card(MODEL), voxels={"policy": "spacing", "spacing_mm": 1.0})
    other = export(small_backbone(MODEL), card, "safetensors", tmp_path / "other")
    with pytest.raises(ConfigError, match=r"other voxels than .*: policy spacing, spacing_mm 1\.0 against") as said:
        pipeline.finetune_segmentation(replace(config, init=str(other)), tmp_path / "run")
    assert "maesil prepare SCANS --labels --out OTHER --spacing-mm 1" in str(said.value.fix)


def test_finetune__no_store(config: FinetuneConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no store"):
        pipeline.finetune_segmentation(replace(config, data=DataConfig()), tmp_path / "run")


def test_score__a_pretraining_run_is_none_of_segmentation(encoder: Path, tmp_path: Path, tiny_config: object) -> None:
    pipeline.pretrain(tiny_config, tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="a pre-training run, not a segmentation run"):
        pipeline.score_segmentation(tmp_path / "run")


def test_annotated__says_what_is_missing(store: Path, tiny_store: Path) -> None:
    with pytest.raises(StoreError, match="no scan of this store has labels"):
        annotated(ScanStore(tiny_store), ())
    with pytest.raises(ConfigError, match="no scan has the class 'brighd'"):
        annotated(ScanStore(store), ("brighd",))
    classes, scans = annotated(ScanStore(store), ())
    assert (classes.names, len(scans)) == (("bright", "dark"), 4)


def test_annotated__only_scans_that_were_searched_for_every_class(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    scans = tmp_path / "more"
    scans.mkdir()
    from maesil.ct.write import write_nifti

    volume, labels = with_inclusion(9, (30, 30, 30))
    write_nifti(scans / "e.nii.gz", volume)
    write_nifti(scans / "e_tumour.nii.gz", replace(labels, array=(labels.array == 1).astype(np.uint8)))
    prepare([scans], tmp_path / "store", PrepareConfig(spacing_mm=2.0, salt="test", labels=True), workers=0)
    mixed = ScanStore(tmp_path / "store")
    assert annotated(mixed, ("bright",))[1] == tuple(f"scans-{name}" for name in "abcd")
    assert annotated(mixed, ("tumour",))[1] == ("more-e",)
    with pytest.raises(ConfigError, match=r"annotated for all of these classes: bright \(4\), tumour \(1\)"):
        annotated(mixed, ("bright", "tumour"))
    with pytest.raises(ConfigError, match="share none"):
        annotated(mixed, ())


def partly_marked(folder: Path, missing_labels: Literal["absent", "unmarked"], scans: str = "ad") -> Path:
    """Four scans with labels; "dark" is there in all of them, and not marked in "a" and "d", or in other `scans`."""
    source = labelled_store(folder).parent
    for name in scans:
        path = source / "scans" / f"{name}_labels.nii.gz"
        image = nibabel.load(path)
        marked = np.asarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.where(marked == 1, marked, 0), image.affine), path)
    settings = PrepareConfig(spacing_mm=2.0, salt="test", labels=True, label_names=source / "names.json")
    prepare([source / "scans"], folder / "again", replace(settings, missing_labels=missing_labels), workers=0)
    return folder / "again"


def test_finetune__a_class_that_is_marked_in_some_scans_only(config: FinetuneConfig, tmp_path: Path) -> None:
    """It is learnt from these, and not scored in others, where it was found but nobody marked it."""
    store = partly_marked(tmp_path, "unmarked")
    assert annotated(ScanStore(store), ("bright", "dark"))[1] == ("scans-b", "scans-c")
    assert annotated(ScanStore(store), (), partial=True)[0].names == ("bright", "dark")
    labels = LabelsConfig(classes=("bright", "dark"))
    config = replace(config, data=replace(config.data, store=store), labels=labels)
    with pytest.raises(
        StoreError, match=r"no test scan marks all of: bright, dark \(dark is missing in scans-d\)"
    ) as refused:
        pipeline.finetune_segmentation(config, tmp_path / "none")
    assert "--labels.partial" in str(refused.value.fix)
    assert "overrides" not in str(refused.value.fix)
    config = replace(
        config,
        labels=replace(labels, partial=True),
        train=TrainConfig(steps=120, batch=2, peak_lr=3e-3),
        model=SegmentationConfig(features=8),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", MissingLabelsWarning)
        pipeline.finetune_segmentation(config, tmp_path / "run")
    bright, dark = score_segmentation(tmp_path / "run").rows
    assert bright["dice"] > 0.5
    assert math.isnan(dark["dice"])
    assert "dark" not in (tmp_path / "run" / "table.md").read_text().split("| bright |")[0]
    assert math.isfinite(validation_dice(tmp_path / "run", store)["scans-c"])


def test_divide__says_which_class_the_scans_of_a_split_lack(config: FinetuneConfig, tmp_path: Path) -> None:
    store = ScanStore(partly_marked(tmp_path, "unmarked"))
    overrides = {"a": "train", "b": "test", "c": "test", "d": "train"}
    patients = replace(config.data.holdout.patients, overrides=overrides)
    data = replace(config.data, holdout=replace(config.data.holdout, patients=patients))
    config = replace(config, data=data, labels=LabelsConfig(classes=("bright", "dark")))
    _, scans = annotated(store, ("bright", "dark"))
    lacking = r"no training scan marks all of: bright, dark \(dark is missing in scans-a, scans-d\)"
    with pytest.raises(StoreError, match=lacking):
        divide(store, scans, config, (32, 32, 32))


def test_divide__says_how_many_more_classes_are_missing(config: FinetuneConfig) -> None:
    """Apart from how many more scans lack one of them."""
    store, names = ScanStore(config.data.only_store("")), tuple(f"organ_{number}" for number in range(7))
    config = replace(config, labels=LabelsConfig(classes=names))
    with pytest.raises(StoreError, match=r"organ_4 is missing in scans-a, scans-b; 2 more classes are missing, too\)"):
        divide(store, [], config, (32, 32, 32))


def test_finetune__names_the_classes_and_those_that_are_left_out(config: FinetuneConfig, tmp_path: Path) -> None:
    data = replace(config.data, store=partly_marked(tmp_path, "unmarked"))
    config = replace(config, data=data, train=replace(config.train, steps=1))
    left_out = "1 class: bright; left out, as some scans do not mark them: dark (--labels.partial takes them)\n"
    assert words_of(config, tmp_path / "run").startswith(left_out)
    chosen = replace(config, labels=LabelsConfig(classes=("bright",)))
    said = words_of(chosen, tmp_path / "chosen")
    assert said.startswith("1 class: bright\n2 labelled scans to train on, 1 for validation, 1 for testing\n")
    everything = replace(config, labels=LabelsConfig(partial=True))
    assert words_of(everything, tmp_path / "all").startswith("2 classes: bright, dark\n")


def words_of(config: FinetuneConfig, run: Path) -> str:
    """What a fine-tuning prints."""
    said = io.StringIO()
    pipeline.finetune_segmentation(config, run, console=Console(file=said, soft_wrap=True))
    return said.getvalue()


def test_require_validation__counts_scans_with_some_of_the_classes(config: FinetuneConfig, tmp_path: Path) -> None:
    """The validation scan has one class of two, and does not count without `partial`."""
    holdout = config.data.holdout
    split = replace(holdout.patients, overrides={"d": "val", "c": "test"})
    data = replace(config.data, store=partly_marked(tmp_path, "unmarked"), holdout=replace(holdout, patients=split))
    labels = LabelsConfig(classes=("bright", "dark"))
    with pytest.raises(ConfigError, match="chosen on validation patients"):
        require_validation(ready_to_train(replace(config, data=data, labels=labels)))
    require_validation(ready_to_train(replace(config, data=data, labels=replace(labels, partial=True))))


def test_finetune__warns_of_classes_that_have_no_voxel(config: FinetuneConfig, tmp_path: Path) -> None:
    store = partly_marked(tmp_path, "absent")
    config = replace(config, data=replace(config.data, store=store))
    with pytest.warns(MissingLabelsWarning, match=r"labelled training scans without a voxel: dark \(1 of 2\)"):
        pipeline.finetune_segmentation(config, tmp_path / "run")


def test_finetune__warns_of_classes_that_no_training_scan_marks(config: FinetuneConfig, tmp_path: Path) -> None:
    store = partly_marked(tmp_path, "unmarked")  # a trains, b too; c validates, d is tested
    holdout = config.data.holdout
    split = replace(holdout.patients, overrides={"b": "test", "c": "val", "d": "test"})
    data = replace(config.data, store=store, holdout=replace(holdout, patients=split))
    labels = LabelsConfig(classes=("bright", "dark"), partial=True)
    config = replace(config, data=data, labels=labels, train=replace(config.train, steps=1))
    with pytest.warns(MissingLabelsWarning, match="no labelled training scan marks: dark. The network cannot"):
        pipeline.finetune_segmentation(config, tmp_path / "run")


def test_divide__folds_by_patient(config: FinetuneConfig) -> None:
    store = ScanStore(config.data.store)
    tested = []
    for fold in range(4):
        asked = replace(config, labels=LabelsConfig(folds=4, fold=fold))
        division = divide(store, [e.scan_id for e in store.entries], asked, MODEL.superpatch)
        test = {region.entry.patient for region in division.test}
        assert not test & {region.entry.patient for region in division.train}
        tested += sorted(test)
    assert sorted(tested) == list(CENTRES)
    with pytest.raises(ConfigError, match="9 folds for 4 labelled patients"):
        divide(
            store, [e.scan_id for e in store.entries], replace(config, labels=LabelsConfig(folds=9)), MODEL.superpatch
        )
    with pytest.raises(StoreError, match="no labelled scan is in the split 'test'"):
        divide(store, ["scans-a"], config, MODEL.superpatch)


@pytest.mark.parametrize(
    ("by", "edge", "reason"),
    [
        ("superpatch", 96, "too few superpatches to hold any out"),
        ("patient", 256, "its scans are smaller than a superpatch"),
    ],
)
def test_divide__says_why_no_scan_has_a_superpatch(
    by: Literal["patient", "superpatch"], edge: int, reason: str, config: FinetuneConfig
) -> None:
    """Not that no scan is in the split: other patients there would change nothing."""
    store = ScanStore(config.data.only_store(""))
    holdout = replace(config.data.holdout, by=by)
    config = replace(config, data=replace(config.data, holdout=holdout))
    with pytest.raises(EmptySplitError) as told:
        divide(store, [entry.scan_id for entry in store.entries], config, (edge, edge, edge))
    assert reason in str(told.value.fix)


@pytest.mark.parametrize("patient", ["a", "c"], ids=["trained", "validated"])
def test_divide__a_damaged_scan_is_told(patient: str, config: FinetuneConfig, tmp_path: Path) -> None:
    """It was said that no labelled scan is there; of a validation patient, nothing was said."""
    shutil.copytree(config.data.only_store(""), tmp_path / "store")
    for path in (tmp_path / "store" / "scans" / f"scans-{patient}" / "occupancy" / "c").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    store = ScanStore(tmp_path / "store")
    with pytest.raises(StoreError, match=f"'scans-{patient}'"):
        divide(store, [entry.scan_id for entry in store.entries], config, MODEL.superpatch)


def test_divide__compares_scans_a_few_times_however_many_are_labelled(config: FinetuneConfig) -> None:
    """A name for each of 1,000 scans that the store has no superpatch of; each comparison is counted."""
    names, compared = counted_names(1000)
    store = ScanStore(config.data.only_store(""))
    scans = [*names, *(entry.scan_id for entry in store.entries)]
    assert len(divide(store, scans, config, MODEL.superpatch).train) == 2
    assert len(compared) < 1000


def test_limited__smaller_sets_lie_in_larger_ones(config: FinetuneConfig) -> None:
    regions = regions_of(
        ScanStore(config.data.store), replace(config.data, holdout=HoldoutConfig()), MODEL.superpatch, "train"
    )
    for seed in range(3):
        few = {r.entry.scan_id for r in limited(regions, LabelsConfig(scans=1), seed)}
        more = {r.entry.scan_id for r in limited(regions, LabelsConfig(scans=2), seed)}
        assert few < more
        tiles = [
            {(r.entry.scan_id, t.origin) for r in limited(regions, LabelsConfig(share=share), seed) for t in r.tiles}
            for share in (0.1, 0.5, 1.0)
        ]
        assert tiles[0] < tiles[1] < tiles[2]
    with pytest.raises(ConfigError, match="99 labelled training scans"):
        limited(regions, LabelsConfig(scans=99), 0)


def test_limited__no_superpatch_touches_a_held_out_one(config: FinetuneConfig) -> None:
    """At a scan's far end superpatches are pushed back inside it, but never into one that is held out."""
    data = replace(config.data, holdout=HoldoutConfig(by="superpatch"))
    regions = regions_of(ScanStore(config.data.store), data, (24, 24, 24), "train")
    moved = [r.tiling.pushed_back(tile).origin for r in regions for tile in r.tiles if not r.is_allowed(tile.origin)]
    assert not moved, "the grid's own superpatches do not touch"
    assert any(not r.is_allowed(r.tiling.pushed_back(tile).origin) for r in regions for tile in r.tiles)
    cut = limited(regions, LabelsConfig(share=1.0), 0)
    assert [len(region.tiles) for region in cut] == [len(region.tiles) for region in sorted_as(regions, cut)]
    assert all(region.is_allowed(tile.origin) for region in cut for tile in region.tiles)


def sorted_as(regions: Sequence[Region], others: Sequence[Region]) -> list[Region]:
    """The regions in the order of the others' scans."""
    of_scan = {region.entry.scan_id: region for region in regions}
    return [of_scan[other.entry.scan_id] for other in others]


def test_score__by_superpatch_scores_held_out_superpatches_alone_and_says_so(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is right there and wrong everywhere else is right."""
    data = replace(config.data, holdout=HoldoutConfig(by="superpatch"))
    run = tmp_path / "run"
    train = replace(config.train, steps=1, batch=1)
    pipeline.finetune_segmentation(
        replace(config, data=data, train=train, monitor=MonitorConfig(validate_every=0, image_every=0)), run
    )
    store = ScanStore(config.data.store)
    shape = store.entries[0].shape
    answers = []
    for region in regions_of(store, data, MODEL.superpatch, "test"):
        answer = np.ones(shape, dtype=np.uint8)
        truth = Classes(("bright", "dark")).read(store, region.entry.scan_id, (0, 0, 0), shape)
        for tile in region.tiles:
            answer[tile.inside] = truth[tile.inside]
        answers.append(answer)
    given = iter(answers)
    monkeypatch.setattr("maesil.tasks.segmentation.score.segment", lambda *_: next(given))
    scored = pipeline.score_segmentation(run)
    dice = [row["dice"] for row in scored.rows if not np.isnan(row["dice"])]
    assert dice
    assert set(dice) == {1.0}
    assert {row["trained"] for row in scored.rows} == {True}
    assert all(row["superpatches"] >= 1 for row in scored.rows)
    assert "Split 'test' by superpatch" in scored.table
    assert "never saw" not in scored.table
    assert "whole scans of" not in scored.table


def test_foreground_plan__centres_on_every_class(config: FinetuneConfig) -> None:
    store = ScanStore(config.data.store)
    classes = Classes(("bright", "dark"))
    regions = regions_of(store, config.data, (16, 16, 16), "train")
    marks = [marks_of(store, classes, region, 0) for region in regions]
    plan = ForegroundPlan(regions, marks, make_plan(regions, config.data, 0), 1.0, seed=0)
    dataset = LabelledDataset(store, classes, plan, (16, 16, 16))
    seen = [set(np.unique(dataset[number].labels)) for number in range(40)]
    assert all(found & {1, 2} for found in seen)
    assert sum(1 in found for found in seen) > 10
    assert sum(2 in found for found in seen) > 10
    assert plan.place(7) == plan.place(7)


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.5}, {"folds": 1}, {"folds": 3, "fold": 3}])
def test_labels_config__refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LabelsConfig(**wrong)


def test_command__wrong_calls(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["finetune"], "no task is given"),
        (["finetune", "segmentatoin"], "did you mean 'segmentation'"),
        (["finetune", "segmentation", "--init", "none"], "no run folder"),
        (["predict", "nowhere", "scan.nii.gz", "--out", "x.nii.gz"], "does not exist"),
        (["predict", "nowhere", "scan.nii.gz", "--out", "x.png"], "not the name of a NIfTI file"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
