"""The command `report`: writes a run's page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from maesil.datasets.splits import SPLITS
from maesil.errors import CheckpointError, ConfigError
from maesil.evaluation.notes import split_note
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.record import Evaluated, read_record, scores_folder
from maesil.evaluation.runner import held_out, rebuild_region, under
from maesil.evaluation.scores import Score, read_scores
from maesil.evaluation.tables import tabulate
from maesil.files import AnyPath, as_paths, require_output, require_own
from maesil.progress import Progress
from maesil.report.case import Case
from maesil.report.describe import run_page
from maesil.report.figures import figure3, save_figure
from maesil.report.page import is_page, write_page
from maesil.report.repeat import repeat_commands, scored_words
from maesil.runs.checkpoints import checkpoint_of
from maesil.runs.kinds import SCORES
from maesil.runs.load import LoadedModel, load_run, run_store
from maesil.sampling.regions import Region, regions_of
from maesil.store.scanstore import ScanStore


def report(
    run: AnyPath,
    *,
    out: AnyPath | None = None,
    split: str = "test",
    scans: Sequence[str] = (),
    store: AnyPath | Sequence[AnyPath] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes a run's page: protocol and scores, reconstructions in three views, the training curve.

    Reconstructions use the checkpoint and the protocol that were scored.

    Args:
        run: A run folder that `evaluate` has scored.
        out: File to write; None: report.html in the run folder, or report-SPLIT.html for another split than "test";
            `-store-FINGERPRINT` follows SPLIT if another store than the run's was scored.
        split: The split whose evaluation is shown.
        scans: Scans to show; by default the first two of the split.
        store: The store that was scored, or the stores; None: the run's own.
        progress: Called after every scan.

    Returns:
        Path of the page.

    Raises:
        CheckpointError: The run was not evaluated, or its checkpoint has changed since.
        ConfigError: None of the scans was scored, or `out` or the picture next to it cannot be written or is another
            file.
    """
    run = Path(run)
    stores = () if store is None else tuple(as_paths(store))
    record = checkpoint_of(run)[1]  # raises a clear error if there is no such run
    given = ScanStore(stores).fingerprint if stores else None
    folders = {each: scores_folder(run, each, "", given=given, own=record.get("store")) for each in SPLITS}
    folder = folders[split]
    path = run / page_name(folder.name) if out is None else Path(out)
    picture = picture_beside(path)
    _require_scores(run, split, folders, stores)
    scores, evaluated = read_scores(folder / SCORES), read_record(folder)
    if evaluated.protocol.folder_ending:
        what = "these scores, under other masks than the run's own, are of an earlier version"
        raise CheckpointError(what, where=folder, fix="run `maesil evaluate` again")
    held = ScanStore(stores or run_store(run))
    if evaluated.store not in (None, held.fingerprint):
        fix = f"run `maesil evaluate` again, or give the store that was scored: maesil report {run} --data.store STORE"
        raise CheckpointError("these scores are of another store, or the store has changed", where=folder, fix=fix)
    loaded = _as_scored(run, evaluated)
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
    again = repeat_commands(run, evaluated, split, scans, stores)
    page = run_page(run, loaded.record, network, loaded.model.last_stage, parameters, table, cases, caution, again)
    write_page(path, page)
    save_figure(figure3(cases[0]), picture)
    return path


def picture_beside(page: Path) -> Path:
    """The picture that is written next to a page, once both are sure to be written.

    Raises:
        ConfigError: The page's name is that of another kind of file, one of them cannot be written, or one is there
            that `maesil report` did not write. A picture is told by its page: it was written with this one.
    """
    require_output(page)
    if page.suffix not in (".html", ".htm"):
        raise ConfigError(f"a page can't be a '{page.suffix}' file", where=page, fix="end its name in .html")
    require_own(page, is_page, "report")
    picture = require_output(page.with_suffix(".png"))
    return require_own(picture, lambda _: page.is_file() and is_page(page), "report")


def page_name(scored: str) -> str:
    """Name in the run folder of the page of a folder of scores; that of the test split has the plain name."""
    return "report.html" if scored == "test" else f"report-{scored}.html"


def _require_scores(run: Path, split: str, folders: Mapping[str, Path], stores: Sequence[Path]) -> None:
    """Raises CheckpointError if a split was not evaluated, on the run's store or on these.

    Args:
        run: The run folder.
        split: The split to show.
        folders: Map from split to the folder of its scores.
        stores: The stores that the caller named; empty: the run's own.
    """
    if (folders[split] / SCORES).is_file():
        return
    command = shlex.join(["maesil", "evaluate", str(run), *scored_words(split, stores)])
    others = [each for each, folder in folders.items() if (folder / SCORES).is_file()]
    hint = "".join(f", or give --split {other}" for other in others)
    raise CheckpointError(f"split '{split}' was not evaluated", where=run, fix=f"{command}{hint}")


def _as_scored(run: Path, evaluated: Evaluated) -> LoadedModel:
    """The model that was evaluated; an error if the run has trained further since."""
    loaded = load_run(run, checkpoint=evaluated.checkpoint)
    if loaded.record["step"] != evaluated.step:
        raise CheckpointError(
            f"step {evaluated.step} was evaluated, but checkpoint '{evaluated.checkpoint}' is now at step "
            f"{loaded.record['step']}",
            where=run,
            fix="run `maesil evaluate` again",
        )
    return loaded


def _chosen(regions: Sequence[Region], wanted: Sequence[str], scores: Sequence[Score]) -> list[Region]:
    """The scans of the table to show: the wanted ones, or the first two."""
    scored = {score.scan for score in scores}
    known = [region for region in regions if region.entry.scan_id in scored]
    chosen = [region for region in known if region.entry.scan_id in wanted] if wanted else known[:2]
    if not chosen:
        named = f": {', '.join(wanted)}" if wanted else " in this store"
        fix = f"scored scans: {', '.join(sorted(scored))}; give another store with --data.store"
        raise ConfigError(f"no such scan was scored{named}", fix=fix)
    return chosen


def make_case(loaded: LoadedModel, store: ScanStore, region: Region, protocol: Protocol) -> Case:
    """Reconstructs a scan as a user gets it, under the first of the masks that it was scored with."""
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
