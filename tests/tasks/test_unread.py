"""Every setting of a task is read by the program, or refused: none is given in vain."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import maesil
from backbones import small_backbone, small_card
from conftest import TINY_MODEL
from labelled import CENTRES, labelled_store
from maesil import pipeline
from maesil.cli import main
from maesil.errors import ConfigError
from maesil.export.targets import export
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.store.scanstore import ScanStore
from maesil.tasks import unread
from maesil.tasks.classification import finetune
from maesil.tasks.classification.config import ClassificationConfig
from maesil.tasks.segmentation.config import FinetuneConfig, LabelsConfig
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig

CHANGED = {
    "train.optimizer": "muon",
    "efficiency.compile": "",
    "monitor.image_every": "5",
    "data.window.low_hu": "-200",
    "data.window.high_hu": "300",
}
"""Settings that no task reads: a value that is not the default (a switch has none); the program has to refuse it."""

PACKAGE = f"{Path(maesil.__file__).parent}{os.sep}"
"""Folder of the program's own code; a checkout may be called maesil, too."""

KINDS: dict[str, type[Any]] = {"segmentation": FinetuneConfig, "classification": ClassificationConfig}
"""The settings of each task; `compare-transfer` has those of a segmentation."""

QUICK = EfficiencyConfig(accelerator="cpu", precision="32-true", threads=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_store(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "out"
    return export(small_backbone(TINY_MODEL), small_card(TINY_MODEL), "safetensors", folder)


def leaves(config: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a configuration."""
    for field in fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            yield name


def recording(config: Any, seen: set[str], prefix: str = "") -> Any:
    """The same settings, of classes that write down which of them the program reads.

    Copies that `dataclasses.replace` makes are of the same classes, so they go on writing. Reading for a copy, for the
    run's record or for a check counts for nothing: only code of maesil's own that uses a value does.
    """
    names = {field.name: f"{prefix}{field.name}" for field in fields(config)}

    class Recording(type(config)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name in names:
                code = sys._getframe(1).f_code
                checks = code.co_filename == unread.__file__ or code.co_name == "__post_init__"
                if code.co_filename.startswith(PACKAGE) and not checks:
                    seen.add(names[name])
            return super().__getattribute__(name)

    own = {name: getattr(config, name) for name in names}
    parts = {n: recording(v, seen, f"{names[n]}.") if is_dataclass(v) else v for n, v in own.items()}
    return Recording(**parts)


def flag_of(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def segmentation(store: Path, encoder: Path) -> FinetuneConfig:
    split = replace(HoldoutConfig().patients, fractions=(1.0, 0.0, 0.0), overrides={"c": "val", "d": "test"})
    config = FinetuneConfig(
        init=str(encoder),
        data=DataConfig(store=store, flip_axes=(), padded_crops=False, holdout=HoldoutConfig(patients=split)),
        train=TrainConfig(steps=1, batch=1, peak_lr=1e-3),
        monitor=MonitorConfig(validate_every=1, checkpoint_every=1, image_every=0, log_every=1),
        efficiency=QUICK,
    )
    return replace(config, model=replace(config.model, features=4))


def segmented(config: FinetuneConfig) -> list[FinetuneConfig]:
    """Settings of runs that together go every way through a segmentation."""
    by_tile = HoldoutConfig(by="superpatch", test_superpatches=1)
    random = replace(config, init="none", preset="demo", train=replace(config.train, peak_lr=None))
    return [
        replace(config, data=replace(config.data, weighting="temperature")),
        replace(config, data=replace(config.data, holdout=by_tile), model=replace(config.model, mode="frozen")),
        replace(
            config,
            labels=LabelsConfig(folds=2, share=0.2),
            data=replace(config.data, holdout=HoldoutConfig()),
            monitor=replace(config.monitor, validate_every=0),
        ),
        replace(random, model=replace(random.model, resolution="half")),
    ]


def classified(store: Path, encoder: Path) -> list[ClassificationConfig]:
    """The same of a classification."""
    config = ClassificationConfig(init=str(encoder), folds=2, efficiency=QUICK)
    full = replace(config, mode="full", train=TrainConfig(steps=1, batch=1, peak_lr=1e-3))
    based = replace(full, random_start=True, train=replace(full.train, peak_lr=None))
    return [replace(config, efficiency=EfficiencyConfig(), pool="mean_std"), full, based]


def written_labels(folder: Path) -> Path:
    path = folder / "labels.csv"
    rows = [f"scans-{name},{'odd' if at % 2 else 'even'}" for at, name in enumerate(CENTRES)]
    path.write_text("\n".join(["scan_id,kind", *rows]) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("task", list(KINDS))
def test_settings__each_is_read_or_refused(task: str, store: Path, encoder: Path, tmp_path: Path) -> None:
    seen: set[str] = set()
    known = set(leaves(KINDS[task]()))
    if task == "segmentation":
        for at, config in enumerate(segmented(segmentation(store, encoder))):
            pipeline.finetune_segmentation(recording(config, seen), tmp_path / str(at))
    else:
        for at, settings in enumerate(classified(store, encoder)):
            labels = written_labels(tmp_path)
            pipeline.finetune_classification(recording(settings, seen), store, labels, tmp_path / str(at))
    assert known - seen == known & set(CHANGED), "a new setting is to be read, or refused and named here"


@pytest.mark.parametrize(
    ("task", "setting"),
    [(task, setting) for task, kind in KINDS.items() for setting in leaves(kind()) if setting in CHANGED],
)
def test_command__refuses_what_nothing_reads(
    task: str, setting: str, store: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["finetune", task, "--init", str(encoder), "--data.store", str(store), "--run", str(tmp_path / "run")]
    if task == "classification":
        words += ["--labels", str(written_labels(tmp_path)), "--mode", "full", "--folds", "2"]
    else:
        words += ["--labels.folds", "2"]
    assert main([*words, flag_of(setting), *CHANGED[setting].split()]) == 2
    told = capsys.readouterr().err
    assert "--data.window" in told if "window" in setting else f"{flag_of(setting)} would have no effect" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", list(KINDS))
def test_command__an_unknown_preset(task: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune", task, "--preset", "bsae", "--data.store", str(store), "--run", str(tmp_path / "run")]
    if task == "classification":
        words += ["--labels", str(written_labels(tmp_path)), "--folds", "2"]
    assert main(words) == 2
    assert "did you mean 'base'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def part(section: str, **values: Any) -> Callable[[Any], Any]:
    """Settings with other values in one section."""
    return lambda config: replace(config, **{section: replace(getattr(config, section), **values)})


def held(**values: Any) -> Callable[[Any], Any]:
    """Settings with another hold-out."""
    return lambda config: part("data", holdout=replace(config.data.holdout, **values))(config)


def both(*changes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(config: Any) -> Any:
        for change in changes:
            config = change(config)
        return config

    return changed


SHARE = part("labels", share=0.5)
FOLDS = part("labels", folds=2)
LINEAR = part("model", mode="linear")
SPLIT = replace(HoldoutConfig().patients, overrides={"a": "test"})


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (part("train", base_lr=1e-2), "--train.base-lr"),
        (lambda config: replace(config, init="run", preset="demo"), "--preset"),
        (both(SHARE, part("data", sampling="grid")), "--data.sampling"),
        (both(SHARE, part("data", padded_crops=True)), "--data.padded-crops"),
        (both(SHARE, part("data", weighting="by-dataset")), "--data.weighting"),
        (both(SHARE, part("data", superpatches_per_pass=9)), "--data.superpatches-per-pass"),
        (both(SHARE, part("model", foreground=0.1)), "--model.foreground"),
        (part("data", sampling="grid", superpatches_per_pass=9), "--data.superpatches-per-pass"),
        (part("data", temperature=0.1), "--data.temperature"),
        (part("labels", fold=1), "--labels.fold"),
        (both(FOLDS, held(by="superpatch")), "--data.holdout.by"),
        (both(FOLDS, held(given=False)), "--data.holdout.given"),
        (both(FOLDS, held(patients=SPLIT)), "--data.holdout.patients.overrides"),
        (held(held_tissue=0.5), "--data.holdout.held-tissue"),
        (both(part("model", mode="frozen"), part("model", layer_decay=0.5)), "--model.layer-decay"),
        (both(LINEAR, part("model", features=4)), "--model.features"),
        (both(LINEAR, part("model", resolution="half")), "--model.resolution"),
    ],
)
def test_segmentation__refuses_what_this_run_would_not_read(change: Callable[[Any], Any], flag: str) -> None:
    unread.refuse_in_segmentation(FinetuneConfig())
    with pytest.raises(ConfigError, match=f"{flag} would have no effect"):
        unread.refuse_in_segmentation(change(FinetuneConfig()))


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (part("train", steps=9), "--train.steps"),
        (part("efficiency", threads=1), "--efficiency.threads"),
        (lambda config: replace(config, layer_decay=0.5), "--layer-decay"),
        (lambda config: replace(config, mode="attentive", pool="mean_std"), "--pool"),
    ],
)
def test_classification__refuses_what_this_mode_would_not_read(change: Callable[[Any], Any], flag: str) -> None:
    unread.refuse_in_classification(ClassificationConfig())
    with pytest.raises(ConfigError, match=f"{flag} would have no effect"):
        unread.refuse_in_classification(change(ClassificationConfig()))


def test_classification__keeps_a_small_store_in_memory(
    store: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    class Watched(ScanStore):
        def __init__(self, path: Path | str, *, resident_gib: float = 0.0) -> None:
            asked.append(resident_gib)
            super().__init__(path, resident_gib=resident_gib)

    monkeypatch.setattr(finetune, "ScanStore", Watched)
    config = ClassificationConfig(init=str(encoder), folds=2, efficiency=EfficiencyConfig(resident_gib=0.5))
    pipeline.finetune_classification(config, store, written_labels(tmp_path), tmp_path / "run")
    assert asked == [0.5]


def test_window__is_the_encoders_and_written_so(store: Path, tmp_path: Path) -> None:
    """A run's record holds the window that its network saw, not the default of a setting that nobody gave."""
    card = replace(small_card(TINY_MODEL), low_hu=-200.0, high_hu=300.0)
    other = export(small_backbone(TINY_MODEL), card, "safetensors", tmp_path / "encoder")
    config = segmentation(store, other)
    pipeline.finetune_segmentation(config, tmp_path / "run")
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert "low_hu: -200.0" in text
    assert "high_hu: 300.0" in text
    wrong = part("data", window=replace(config.data.window, low_hu=-500.0))(config)
    with pytest.raises(ConfigError, match=r"the window is -500 to 1000 HU, but the encoder.s is -200 to 300 HU"):
        pipeline.finetune_segmentation(wrong, tmp_path / "other")
