"""The main path, one function a step: prepare, pretrain, evaluate, report, reconstruct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console

from maesil.config import RunConfig
from maesil.ct.readers import read
from maesil.ct.resample import resample_to
from maesil.ct.volume import Volume
from maesil.ct.write import beside, nifti_ending, write_nifti
from maesil.errors import CheckpointError, ConfigError
from maesil.evaluation.constant_volumes import constant_note
from maesil.evaluation.notes import checkpoint_note, input_note, split_note, told_note
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.rebuild import rebuild
from maesil.evaluation.record import Evaluated, read_record, write_record
from maesil.evaluation.runner import held_out, rebuild_region, score_models, under
from maesil.evaluation.scores import Score, read_scores, write_json_scores, write_scores
from maesil.evaluation.tables import tabulate, to_csv, to_latex, to_markdown
from maesil.models import UNTRAINED, Reconstructor, make_model
from maesil.report.case import Case
from maesil.report.describe import run_page
from maesil.report.figures import figure3, save_figure
from maesil.report.page import write_page
from maesil.runs import LoadedModel, Outcome, load, model_card, run_record, run_store, settle, steps_done
from maesil.sampling.regions import Region, check_overrides, regions_of, split_summary, split_warnings
from maesil.sampling.volumes import box_reader
from maesil.seen import seen_note
from maesil.store.conform import conform
from maesil.store.location import absolute
from maesil.store.prepare import PrepareConfig, PrepareReport, Progress
from maesil.store.prepare import prepare as prepare_store
from maesil.store.scanstore import ScanStore
from maesil.tiling import Tiling
from maesil.training.checkpoint import checkpoint_folder
from maesil.training.trainer import Job, train


def prepare(
    sources: Sequence[Path],
    out: Path,
    config: PrepareConfig | None = None,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Reads scans and writes them into a store; continues where an interrupted run stopped.

    Args:
        sources: Files, DICOM folders, or trees of these.
        out: The store, made if absent.
        config: Resampling and layout.
        scheduler: Address of a running dask scheduler; None: processes on this machine.
        workers: Processes on this machine; None: one per core; 0: none, all in this one.
        progress: Called after every scan with scans done, scans in all, and its name.

    Returns:
        What was prepared, what had been before, and what was quarantined, with reasons.
    """
    settings = config or PrepareConfig()
    return prepare_store(sources, out, settings, scheduler=scheduler, workers=workers, progress=progress)


def pretrain(config: RunConfig, run: Path, *, console: Console | None = None) -> Outcome:
    """Pre-trains a model in a run folder; the same call resumes an interrupted run.

    Args:
        config: The full configuration; `config.data.store` must be set.
        run: The run folder, made if absent.
        console: Where to show progress; None: nowhere.

    Raises:
        ConfigError: No store is given, an override names no patient, or the folder holds a run with other settings.
        TrainingError: The loss became NaN or infinite.
    """
    if config.data.store is None:
        raise ConfigError("no store is given", fix="--data.store STORE, as `maesil prepare` wrote it")
    store = ScanStore(config.data.store, resident_gib=config.efficiency.resident_gib)
    config = replace(config, data=replace(config.data, store=absolute(config.data.store)))
    done = steps_done(run)
    if not done:  # a run that has begun is not cut off from its end by this
        check_overrides(store, config.data.holdout)
    settle(config, run)
    if done >= config.train.steps:
        return Outcome("already finished", run, done, config.train.steps)
    screen = console or Console(quiet=True)
    screen.print(f"resumed at step {done}" if done else split_summary(store, config.data.holdout), markup=False)
    for warning in split_warnings(store, config.data.holdout):
        screen.print(f"warning: {warning}", markup=False)
    torch.manual_seed(config.seed)
    job = Job(
        model=make_model(config.model, config.masking),
        store=store,
        data=config.data,
        train=config.train,
        monitor=config.monitor,
        efficiency=config.efficiency,
        seed=config.seed,
        run=run,
        record=run_record(config, store),
        card=lambda step, metrics: model_card(config, store, step, metrics),
    )
    status = train(job, screen)
    return Outcome(status, run, steps_done(run), config.train.steps)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run and their table.

    Attributes:
        scores: A row per scan, model, metric and region.
        table: Markdown, with the protocol and notes below.
        folder: Where scores.jsonl and the tables were written.
    """

    scores: tuple[Score, ...]
    table: str
    folder: Path


def evaluate(
    run: Path,
    *,
    store: Path | None = None,
    split: str = "test",
    checkpoint: Literal["last", "best"] = "last",
    protocol: Protocol | None = None,
    json_path: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores a run on held-out scans, beside a mean fill and an interpolation that see the same voxels.

    Args:
        run: The run folder.
        store: The store; None: the run's own.
        split: "test", "val" or "train".
        checkpoint: Which of the run's checkpoints.
        protocol: What is scored, and how; its window is the run's.
        json_path: Also write the scores as one JSON file.
        progress: Called after every scan and model.

    Raises:
        CheckpointError: The run has no checkpoint.
        StoreError: There is no store, or the split is empty.
    """
    loaded = load(run, checkpoint=checkpoint)
    data = loaded.config.data
    scans = ScanStore(store or run_store(run))
    regions = regions_of(scans, data, loaded.config.model.superpatch, split)
    protocol = replace(protocol or Protocol(), window=data.window)
    seed = loaded.config.seed
    model, masking = loaded.config.model, protocol.masking_of(loaded.config.masking)
    rows = {name: under(row, masking) for name, row in contestants(loaded).items()}
    scored = score_models(rows, scans, regions, protocol, seed=seed, progress=progress)
    told = told_note(model.name, loaded.model)
    which = checkpoint_note(checkpoint, loaded.record["step"])
    notes = (which, *scored.notes, input_note(model, masking, scans), *told, split_note(data, split, regions))
    whom = "test" if split == "test" else "scored"
    seen = seen_note(loaded.record.get("seen"), [region.entry for region in regions], by="the model", whom=whom)
    notes = (*notes, *constant_note(model.name, loaded.model, data.window), seen)
    table = tabulate(scored.scores, notes)
    # A reading of another kind has a folder of its own: it must not take the place of masked scores.
    folder = run / "evaluation" / (split if protocol.masking == "drawn" else f"{split}-unmasked")
    write_scores(folder / "scores.jsonl", scored.scores)
    write_record(folder, Evaluated(checkpoint, loaded.record["step"], protocol, notes))
    for name, text in (("md", to_markdown(table)), ("tex", to_latex(table)), ("csv", to_csv(table))):
        (folder / f"table.{name}").write_text(text, encoding="utf-8")
    if json_path is not None:
        write_json_scores(json_path, scored.scores, notes)
    return Evaluation(scored.scores, to_markdown(table), folder)


def contestants(loaded: LoadedModel) -> dict[str, Reconstructor]:
    """The run's model, and those that learn nothing, on the same grid and masks."""
    model = loaded.model
    device = next(model.parameters()).device
    untrained = {name: fill(model.grid, model.masking).to(device) for name, fill in UNTRAINED.items()}
    return {**model.entries(loaded.config.model.name), **untrained}


def reconstruct(
    run: Path,
    scan: Path,
    out: Path,
    *,
    predicted: bool = False,
    seed: int = 0,
    series: str | None = None,
    checkpoint: Literal["last", "best"] = "last",
) -> tuple[Path, Path]:
    """Masks and rebuilds one scan; writes the reconstruction and the mask as NIfTI on the scan's own grid.

    Args:
        run: A run or checkpoint folder.
        scan: A file or DICOM folder.
        out: The reconstruction in HU, .nii or .nii.gz; the mask goes to NAME_mask beside it.
        predicted: Write the network's own rebuilding of the visible voxels, too; else they pass through.
        seed: Seed of the masks.
        series: Which DICOM series, where a folder holds several.
        checkpoint: Which of the run's checkpoints.

    Returns:
        The two files.

    Raises:
        ScanError: The scan cannot be read, or is not sound.
        ConfigError: `out` is no NIfTI name.
    """
    mask_out = beside(out, f"_mask{nifti_ending(out)}")
    loaded = load(run, checkpoint=checkpoint)
    original = read(scan, series=series)
    window = loaded.config.data.window
    volume = conform(original, loaded.record["prepare"])
    tiling = Tiling(volume.shape, loaded.config.model.superpatch)
    rebuilt = rebuild(loaded.model, box_reader(volume), tiling, window, seed)
    hu = window.denormalize(rebuilt.reconstruction.clip(0.0, 1.0)).astype(np.float32)
    placed = resample_to(Volume(hu, volume.geometry), original.geometry, fill=window.low_hu)
    mask = resample_to(
        Volume(rebuilt.mask.astype(np.uint8), volume.geometry), original.geometry, fill=0, order="nearest"
    )
    array = placed.array if predicted else np.where(mask.array > 0, placed.array, original.array)
    write_nifti(out, Volume(np.rint(array).astype(np.int16), original.geometry))
    write_nifti(mask_out, mask)
    return out, mask_out


def report(
    run: Path,
    *,
    out: Path | None = None,
    split: str = "test",
    scans: Sequence[str] = (),
    store: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes a run's page: protocol and scores, reconstructions in three views, the training curve.

    The pictures are of the checkpoint and the protocol that were scored.

    Args:
        run: A run folder that `evaluate` has scored.
        out: The page; None: report.html in the run folder.
        split: Which evaluation to show.
        scans: Scans to show; by default the first two of the split.
        store: The store; None: the run's own.
        progress: Called after every scan.

    Returns:
        The page's path.

    Raises:
        CheckpointError: The run was not evaluated, or its checkpoint is a later one by now.
        ConfigError: A scan was not scored.
    """
    checkpoint_folder(run)  # a run that is not there is told as such
    folder = run / "evaluation" / split
    scores, evaluated = read_scores(folder / "scores.jsonl"), read_record(folder)
    loaded = _as_scored(run, evaluated)
    held = ScanStore(store or run_store(run))
    data = loaded.config.data
    regions = regions_of(held, data, loaded.config.model.superpatch, split)
    chosen = _chosen(regions, scans, scores)
    cases = []
    for region in chosen:
        cases.append(make_case(loaded, held, region, evaluated.protocol))
        if progress is not None:
            progress(len(cases), len(chosen), region.entry.scan_id)
    caution = "" if data.holdout.by == "patient" else split_note(data, split, regions)
    table = tabulate(scores, evaluated.notes)
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    network = loaded.config.model.describe()
    page = run_page(run, loaded.record, network, parameters, table, cases, caution)
    path = write_page(out or run / "report.html", page)
    save_figure(figure3(cases[0]), path.with_suffix(".png"))
    return path


def _as_scored(run: Path, evaluated: Evaluated) -> LoadedModel:
    """The model of an evaluation; the run may have gone on since."""
    loaded = load(run, checkpoint=evaluated.checkpoint)
    if loaded.record["step"] != evaluated.step:
        raise CheckpointError(
            f"step {evaluated.step} was evaluated, and checkpoint '{evaluated.checkpoint}' is of step "
            f"{loaded.record['step']} by now",
            where=run,
            fix="run `maesil evaluate` again",
        )
    return loaded


def _chosen(regions: Sequence[Region], wanted: Sequence[str], scores: Sequence[Score]) -> list[Region]:
    """The scans to show, of those in the table: the wanted ones, or the first two."""
    scored = {score.scan for score in scores}
    known = [region for region in regions if region.entry.scan_id in scored]
    chosen = [region for region in known if region.entry.scan_id in wanted] if wanted else known[:2]
    if not chosen:
        named = f": {', '.join(wanted)}" if wanted else " in this store"
        fix = f"scored were: {', '.join(sorted(scored))}; another store is named by --data.store"
        raise ConfigError(f"no such scan was scored{named}", fix=fix)
    return chosen


def make_case(loaded: LoadedModel, store: ScanStore, region: Region, protocol: Protocol) -> Case:
    """A scan of a split as a user gets it, under the first of the masks that it was scored with."""
    model = under(loaded.model, protocol.masking_of(loaded.config.masking))
    rebuilt = rebuild_region(model, store, region, protocol)
    window, entry = protocol.window, region.entry
    return Case(
        scan_id=entry.scan_id,
        dataset=entry.dataset,
        truth_hu=window.denormalize(rebuilt.truth).astype(np.float32),
        reconstruction_hu=window.denormalize(rebuilt.whole).astype(np.float32),
        mask=rebuilt.mask,
        held_out=held_out(region),
        spacing_mm=entry.spacing_mm,
        window=window,
    )
