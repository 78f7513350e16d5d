"""Training a segmentation network on the labelled scans of a store."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from maesil import __version__
from maesil.catalog import NONE
from maesil.counts import count_of, some_of
from maesil.encoder.card import Transfer
from maesil.encoder.source import absolute_source
from maesil.encoder.start import decay_of, starting_point
from maesil.errors import MaesilWarning
from maesil.files import AnyPath
from maesil.models.backbone import Backbone
from maesil.models.transformer import recompute_blocks
from maesil.progress import Progress
from maesil.rank import is_first_rank
from maesil.runs.checkpoints import steps_done
from maesil.runs.kinds import SEGMENTATION
from maesil.runs.lock import locked
from maesil.runs.pretrain import Outcome
from maesil.sampling.labelled import Classes, ForegroundPlan, LabelledDataset, Marks, annotated, marks_of
from maesil.sampling.plan import GridPlan, Plan, make_plan
from maesil.sampling.regions import Region, check_overrides
from maesil.seen import trained_on
from maesil.store.location import absolute
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation.augmenter import Augmenter
from maesil.tasks.segmentation.config import FinetuneConfig, settle, to_dict
from maesil.tasks.segmentation.division import Division, divide
from maesil.tasks.segmentation.module import SegmentationModule
from maesil.tasks.segmentation.network import Segmenter
from maesil.tasks.unread import refuse_in_segmentation, require_window
from maesil.training.batches import Batches
from maesil.training.live_progress import LiveProgress
from maesil.training.trainer import Card, Job, fit, prepare_process
from maesil.version import commit


class MissingLabelsWarning(MaesilWarning):
    """Structures have no voxel in scans that are said to be annotated for them, or no such scan to learn from."""


def finetune_segmentation(
    config: FinetuneConfig,
    run: AnyPath,
    *,
    console: Console | None = None,
    progress: Progress | None = None,
    name_classes: bool = True,
) -> Outcome:
    """Trains a segmentation network; the same call resumes an interrupted run.

    Args:
        config: The settings; `config.data.store` must name a store that was prepared with labels.
        run: The run folder, created if absent.
        console: Where to show progress; None: nowhere.
        progress: Called after every step.
        name_classes: Whether to show which classes are trained, and on how many scans; one of several trainings of the
            same need not.

    Raises:
        ConfigError: No store is given; a setting would be ignored; a class is unknown; an override names an unknown
            patient; the folder's run has other settings; another call is writing it; voxels or window differ from the
            pre-training's.
        StoreError: The store has no labels, or a split has no labelled scan.
        CheckpointError: There is no such encoder.
    """
    run, screen = Path(run), console or Console(quiet=True)
    ready = ready_to_train(config, begun=bool(steps_done(run)))
    with locked(run, SEGMENTATION):
        if is_first_rank():
            settle(ready.config, run, ready.store.fingerprint)
        done = steps_done(run)
        if name_classes:
            screen.print(classes_text(ready), markup=False)
            if not done:
                screen.print(split_text(ready), markup=False)
        if 0 < done < config.train.steps:
            screen.print(f"resumed at step {done}", markup=False)
        bar = LiveProgress(screen, "fine-tuning", progress)
        return _continue(ready, run, bar)


@dataclass(frozen=True)
class Ready:
    """What a training needs.

    Attributes:
        config: The settings, completed from the encoder.
        store: The store.
        backbone: The encoder to start from.
        card: Its card.
        classes: The structures to segment.
        division: The labelled scans by split.
    """

    config: FinetuneConfig
    store: ScanStore
    backbone: Backbone
    card: Transfer
    classes: Classes
    division: Division


def ready_to_train(config: FinetuneConfig, *, begun: bool = False) -> Ready:
    """What a training needs; raises what `finetune_segmentation` raises before its first step.

    Args:
        config: The settings.
        begun: Whether it has begun: then overrides of patients are not checked, as it may always be finished.
    """
    refuse_in_segmentation(config)
    store = _open(config)
    data = replace(config.data, store=absolute(store.path))
    config = replace(config, data=data, init=absolute_source(config.init))
    if not begun:
        check_overrides(store, config.data.holdout)
    torch.manual_seed(config.seed)
    backbone, card = starting_point(config.init, config.preset, store, random_start=config.random_start)
    config = _settled(config, card)
    classes, scans = annotated(store, config.labels.classes, partial=config.labels.partial)
    division = divide(store, scans, config, card.config().superpatch)
    return Ready(config, store, backbone, card, classes, division)


def _continue(ready: Ready, run: Path, bar: LiveProgress) -> Outcome:
    config = ready.config
    done = steps_done(run)
    if done >= config.train.steps:
        return Outcome("already finished", run, done, config.train.steps)
    torch.manual_seed(config.seed)
    model = Segmenter(ready.backbone, len(ready.classes), config.model)
    record = _record(ready)
    job = Job(config.train, config.monitor, config.efficiency, config.seed, run, record, _card(record))
    efficiency = prepare_process(job)
    if efficiency.recompute:
        recompute_blocks(model)
    training, held_out = _datasets(ready)
    data = Batches(training, held_out, config.train, efficiency)
    augmenter = Augmenter(config.augment, config.data.window)
    module = SegmentationModule(model, config.train, config.data.flip_axes, augmenter, config.seed)
    status = fit(module, data, job, efficiency, bar)
    return Outcome(status, run, steps_done(run), config.train.steps)


def classes_text(ready: Ready) -> str:
    """The classes, and those that were left out though nobody chose among them."""
    names = ready.classes.names
    text = f"{count_of(len(names), 'class', 'classes')}: {', '.join(names)}"
    found = {name for entry in ready.store.entries for name in entry.labels or ()}
    others = sorted(found.difference(names))
    if ready.config.labels.classes or not others:
        return text
    listed = some_of(others, whole=f"all in manifest.json of {ready.store.where}")
    return f"{text}; left out, as some scans do not mark them: {listed} (--labels.partial takes them)"


def split_text(ready: Ready) -> str:
    """How many labelled scans each split has."""
    division = ready.division
    scans = f"{count_of(len(division.train), 'labelled scan')} to train on"
    if division.data.holdout.by == "superpatch":
        return f"{scans}, except for held-out superpatches"
    return f"{scans}, {len(division.val)} for validation, {len(division.test)} for testing"


def _open(config: FinetuneConfig) -> ScanStore:
    store = config.data.only_store("--data.store STORE, prepared with --labels")
    return ScanStore(store, resident_gib=config.efficiency.resident_gib)


def _settled(config: FinetuneConfig, card: Transfer) -> FinetuneConfig:
    """The configuration completed from the encoder: its window, and the default layer decay for its weights."""
    decay = decay_of(config.model.layer_decay, config.init, random_start=config.random_start)
    data = replace(config.data, window=require_window(config.data.window, card))
    return replace(config, data=data, model=replace(config.model, layer_decay=decay))


def _datasets(ready: Ready) -> tuple[LabelledDataset, LabelledDataset | None]:
    config, store, classes, division = ready.config, ready.store, ready.classes, ready.division
    shape = ready.card.config().superpatch
    _warn_of_untaught(classes, division.train)
    plan: Plan
    if config.labels.share is None:
        marks = [marks_of(store, classes, region, config.seed) for region in division.train]
        _warn_of_missing(classes, division.train, marks)
        plain = make_plan(division.train, config.data, config.seed)
        plan = ForegroundPlan(division.train, marks, plain, config.model.foreground, config.seed)
    else:
        plan = GridPlan(division.train, config.seed)
    training = LabelledDataset(store, classes, plan, shape)
    if not division.val or not config.monitor.validate_every:
        return training, None
    held_out = GridPlan(division.val, 0)
    count = min(len(held_out), config.monitor.validation_superpatches)
    return training, LabelledDataset(store, classes, held_out, shape, count)


def _warn_of_missing(classes: Classes, regions: Sequence[Region], marks: Sequence[Marks]) -> None:
    """Warns of classes that are said to be marked in training scans, but have no voxel there."""
    missing: Counter[str] = Counter()
    for region, found in zip(regions, marks, strict=True):
        told = zip(classes.names, classes.marked(region.entry), strict=True)
        missing.update(name for number, (name, marked) in enumerate(told, 1) if marked and number not in found.voxels)
    if missing:
        listed = ", ".join(f"{name} ({count} of {len(regions)})" for name, count in missing.most_common())
        warnings.warn(
            f"labelled training scans without a voxel: {listed}. The network is taught that these structures are "
            "absent there. If they were only not marked, prepare the scans again with --labels "
            "--missing-labels unmarked, and add --labels.partial",
            MissingLabelsWarning,
            stacklevel=2,
        )


def _warn_of_untaught(classes: Classes, regions: Sequence[Region]) -> None:
    """Warns of classes that no training scan was annotated for."""
    marked = [classes.marked(region.entry) for region in regions]
    untaught = [name for name, told in zip(classes.names, zip(*marked, strict=True), strict=True) if not any(told)]
    if untaught:
        warnings.warn(
            f"no labelled training scan marks: {', '.join(untaught)}. The network cannot learn these structures, and "
            "predictions of them mean nothing; train on more scans, or leave them out of --labels.classes",
            MissingLabelsWarning,
            stacklevel=2,
        )


def _record(ready: Ready) -> dict[str, Any]:
    config, division = ready.config, ready.division
    settings = to_dict(config)
    settings["data"].pop("store")  # a local path
    if Path(config.init).is_absolute():  # another
        settings.pop("init")
    return {
        "kind": SEGMENTATION,
        "maesil": __version__,
        "commit": commit(),
        "config": settings,
        "encoder": asdict(ready.card),
        "classes": list(ready.classes.names),
        "prepare": ready.store.manifest["settings"],
        "store": ready.store.fingerprint,
        "scans": {split: len(getattr(division, split)) for split in ("train", "val", "test")},
        "seen": trained_on(region.entry for region in division.train),
    }


def _card(record: Mapping[str, Any]) -> Card:
    def written(step: int, metrics: Mapping[str, float]) -> str:
        scores = "".join(f"- {name}: {value:.4g}\n" for name, value in sorted(metrics.items()))
        config = record["config"]
        start = "random weights" if config["random_start"] or config.get("init") == NONE else "a pre-trained encoder"
        return (
            f"# Segmentation by maesil {record['maesil']}, step {step}\n\n"
            f"- starts from: {start} (preset `{record['encoder']['preset']}`), mode {config['model']['mode']}\n"
            f"- classes: {', '.join(record['classes'])}\n"
            f"- labelled scans: {record['scans']['train']} to train on, {record['scans']['test']} to test\n\n"
            f"Last measured:\n\n{scores or '- nothing yet'}\n\nNot a medical device.\n"
        )

    return written
