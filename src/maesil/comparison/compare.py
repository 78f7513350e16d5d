"""The command `compare`: trains models under one budget, scores them, and writes tables, figures and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from maesil.catalog import NONE
from maesil.comparison.budget import Budget
from maesil.comparison.experiment import Entered, Experiment
from maesil.comparison.model_sets import ModelSet
from maesil.comparison.outputs import write_all
from maesil.comparison.result import Comparison
from maesil.comparison.scorer import Pictures, Scorer, shown_regions
from maesil.comparison.spec import Spec
from maesil.config import RunConfig
from maesil.counts import count_of, some_of
from maesil.errors import CheckpointError, ConfigError
from maesil.evaluation.notes import input_note, split_note
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.runner import lpips_or_reason
from maesil.files import AnyPath
from maesil.models import make_model
from maesil.progress import Progress
from maesil.runs.card import dataset_counts
from maesil.runs.from_weights import initial_of, started, with_absolute_init
from maesil.runs.kinds import COMPARISON
from maesil.runs.lock import locked
from maesil.sampling.regions import Region, check_overrides, regions_of, training_scans
from maesil.seen import seen_note, trained_on
from maesil.store.location import absolute
from maesil.store.scanstore import ScanStore
from maesil.training.devices import counted, world_size


def compare(
    preset: RunConfig,
    model_set: ModelSet,
    budget: Budget,
    out: AnyPath,
    *,
    split: str = "test",
    protocol: Protocol | None = None,
    pictures: int = 3,
    seeds: int = 1,
    command: str = "",
    console: Console | None = None,
    progress: Progress | None = None,
) -> tuple[Comparison, Path]:
    """Trains models under one budget, scores them under one protocol, and writes their tables, figures and page.

    The same call resumes an interrupted comparison, model by model. A model that fails keeps its row, with the reason.

    Args:
        preset: The masked autoencoder's run, whose settings all models share; `preset.data.store` must be set.
        model_set: The models, ours first.
        budget: Budget of each training.
        out: The comparison's folder, created if absent.
        split: "test", "val" or "train".
        protocol: What is scored, and how; its window is the preset's.
        pictures: Number of scans whose reconstructions are shown.
        seeds: Training runs per model, with consecutive seeds from the preset's; a scan's scores are averaged over
            them.
        command: Command that reproduces the comparison, for its page.
        console: Where to show progress; None: nowhere.
        progress: Called after every scan and row that is scored.

    Returns:
        The comparison, and the path of its page.

    Raises:
        ConfigError: No store is given, an override names an unknown patient, a model's settings are invalid or cannot
            be scored with the others', or `out` contains another comparison.
        CheckpointError: The weights to start from do not exist, or do not fit the model.
        StoreError: A split is empty.
    """
    out = Path(out)
    path = absolute(preset.data.only_store("maesil compare STORE ..., a folder that `maesil prepare` wrote"))
    preset = replace(preset, data=replace(preset.data, store=path), efficiency=counted(preset.efficiency))
    preset = with_absolute_init(preset)
    store = ScanStore(path)
    check_overrides(store, preset.data.holdout)
    regions = regions_of(store, preset.data, preset.model.superpatch, split)
    regions_of(store, preset.data, preset.model.superpatch, "train")  # fail now rather than in every model
    protocol = (protocol or Protocol()).of_run(preset.data.window)
    scorer = Scorer(store, regions, protocol, preset.model.grid, protocol.masking_of(preset.masking))
    shown, screen = shown_regions(regions, pictures), console or Console(quiet=True)
    experiment = Experiment(preset, budget, scorer, shown, out, screen, seeds)
    trains = any(spec.trained for spec in model_set.specs)
    for spec in model_set.specs:
        if spec.trained:
            require_trainable(spec, preset)
    for note in lpips_or_reason(protocol, None)[1]:  # said again below the table, after all trainings
        screen.print(f"warning: {note}", markup=False)
    labels = ", ".join(spec.label for spec in model_set.specs)
    screen.print(f"{count_of(len(model_set.specs), 'model')}: {labels}; {_budget_text(budget, trains)}", markup=False)
    with locked(out, COMPARISON):
        outcomes = run_models(experiment, model_set, progress)
    results = tuple(result for result, _ in outcomes)
    notes = (
        *lpips_or_reason(scorer.protocol, None)[1],
        input_note(preset.model, scorer.masking, store),
        split_note(preset.data, split, regions),
        *(_seen(preset, store, regions, split) if trains else ()),
    )
    comparison = Comparison(
        title=model_set.title,
        ours=next(result.delivered for result in results if result.label == model_set.ours),
        budget=_budget_text(budget, trains),
        results=results,
        scores=tuple(score for _, scores in outcomes for score in scores),
        notes=notes,
        commands=(command,) if command else (),
        settings=describe(preset, budget if trains else None, store, scorer, seeds),
    )
    return comparison, write_all(comparison, Pictures(experiment.pictures(results), experiment.shown, scorer), out)


def _budget_text(budget: Budget, trains: bool) -> str:
    return budget.describe() if trains else "no model is trained"


def require_trainable(spec: Spec, preset: RunConfig) -> None:
    """Refuses a model that cannot be made or scored, or does not fit the weights to start from.

    Otherwise, the error would come after hours of training.

    Raises:
        CheckpointError: There are no such weights, or they do not fit.
        ConfigError: A setting is unknown or invalid, or the model has superpatches of another size, another store,
            window or split.
    """
    config = spec.configure(preset)
    for name, own, shared, flags in (
        ("model.superpatch", config.model.superpatch, preset.model.superpatch, "--model.superpatch 64 64 64"),
        ("data.store", config.data.store, preset.data.store, "the command's STORE"),
        ("data.window", config.data.window, preset.data.window, "--data.window.low-hu, --data.window.high-hu"),
        ("data.holdout", config.data.holdout, preset.data.holdout, "--data.holdout.by and others"),
    ):
        if own != shared:
            raise ConfigError(
                f"{name} differs from the other models', and all are scored with one",
                where=f"model '{spec.label}'",
                fix=f"set it for all models ({flags}), or compare apart",
            )
    try:
        started(config, make_model(config.model, config.masking))
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"model '{spec.label}': {error.what}", where=error.where, fix=error.fix) from error


def _seen(preset: RunConfig, store: ScanStore, regions: Sequence[Region], split: str) -> tuple[str]:
    """How many of the scored patients the models saw in training."""
    record = trained_on(training_scans(store, preset.data.holdout), before=_seen_before(preset))
    entries = [region.entry for region in regions]
    return (seen_note(record, entries, by="the models", whom="test" if split == "test" else "scored"),)


def _seen_before(preset: RunConfig) -> Sequence[Mapping[str, Any] | None]:
    """Record of the patients that the weights to start from have seen; nothing without such weights."""
    return () if preset.init == NONE else (initial_of(preset.init).seen,)


def run_models(experiment: Experiment, model_set: ModelSet, progress: Progress | None) -> list[Entered]:
    """Trains and scores every model."""
    experiment.settle()
    if unnamed := experiment.left_out(model_set.specs):
        what = "warning: results of earlier models are kept, and the new tables and page leave them out: "
        fix = "; name them in --models, too, to show them"
        experiment.console.print(f"{what}{some_of(unnamed)}{fix}", markup=False)
    outcomes = []
    for number, spec in enumerate(model_set.specs, start=1):
        experiment.console.print(f"\n[bold]{number}/{len(model_set.specs)} {escape(spec.label)}[/bold]")
        outcomes.append(experiment.enter(spec, progress))
    return outcomes


def describe(
    preset: RunConfig, budget: Budget | None, store: ScanStore, scorer: Scorer, seeds: int = 1
) -> Mapping[str, Mapping[str, str]]:
    """The settings that all models shared, in words; without a budget, nothing is trained."""
    train, model, data, masking = preset.train, preset.model, preset.data, preset.masking
    window, hidden = data.window, masking.masked_count(model.grid) / model.grid.tokens
    counts = dataset_counts(store.entries).items()
    shared = {
        "Data": {
            "scans": ", ".join(f"{name}: {count}" for name, count in counts),
            "scored": f"{count_of(len(scorer.regions), 'scan')} of "
            + count_of(len({region.entry.patient for region in scorer.regions}), "patient"),
            "HU window": f"[{window.low_hu:g}, {window.high_hu:g}]",
            "held out by": data.holdout.by,
        },
        "Input": {
            "superpatch": "x".join(map(str, model.superpatch)),
            "patch": "x".join(map(str, model.patch)),
            "masking": f"{masking.name}, {hidden:.1%} hidden",
        },
    }
    if budget is None:
        return shared
    training = {
        "budget": budget.describe(),
        "batch": str(train.global_batch(world_size(preset.efficiency))),
        "beside preset": preset.preset,
        **({} if preset.init == NONE else {f"start of {preset.model.name}": preset.init}),
        "seeds": ", ".join(str(preset.seed + number) for number in range(seeds)),
    }
    return {**shared, "Training": training}
