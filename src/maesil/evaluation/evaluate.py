"""The command `evaluate`: scores a run on held-out scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maesil.evaluation.constant_volumes import constant_note
from maesil.evaluation.notes import checkpoint_note, input_note, split_note, told_note
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.record import Evaluated, scores_folder, write_record
from maesil.evaluation.runner import score_models, under
from maesil.evaluation.scores import Score, require_json_scores, write_json_scores, write_scores
from maesil.evaluation.sheet import frame_to_csv, sheet_to_latex, sheet_to_markdown
from maesil.evaluation.tables import tabulate
from maesil.evaluation.verdict import verdict_note
from maesil.files import AnyPath, as_paths, require_output, write_text
from maesil.models import UNTRAINED, Reconstructor
from maesil.progress import Progress
from maesil.runs.kinds import SCORES
from maesil.runs.load import LoadedModel, load_run, run_store
from maesil.sampling.regions import regions_of
from maesil.seen import seen_note
from maesil.store.scanstore import ScanStore


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run and their table.

    Attributes:
        scores: One row per scan, model, metric and region.
        table: The table in Markdown, with the protocol and notes below.
        folder: Folder that scores.jsonl and the tables were written to.
    """

    scores: tuple[Score, ...]
    table: str
    folder: Path


def evaluate(
    run: AnyPath,
    *,
    store: AnyPath | Sequence[AnyPath] | None = None,
    split: str = "test",
    checkpoint: Literal["last", "best"] = "last",
    protocol: Protocol | None = None,
    json_path: AnyPath | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores a run on held-out scans, next to models that learn nothing and see the same voxels.

    Args:
        run: The run folder.
        store: The store, or several; None: the run's own.
        split: "test", "val" or "train".
        checkpoint: Which of the run's checkpoints to load.
        protocol: What is scored, and how; its window is the run's.
        json_path: Also write the scores as one JSON file.
        progress: Called after every mask draw of a scan and a model.

    Raises:
        ConfigError: The scores cannot be written; or the JSON file cannot, does not end in .json, or is
            there and holds no such scores.
        CheckpointError: The run has no checkpoint.
        StoreError: There is no store, or the split is empty.
    """
    run = Path(run)
    json_path = None if json_path is None else require_json_scores(Path(json_path))
    loaded = load_run(run, checkpoint=checkpoint)
    data = loaded.config.data
    scans = ScanStore(run_store(run) if store is None else as_paths(store))
    regions = regions_of(scans, data, loaded.config.model.superpatch, split)
    protocol = (protocol or Protocol()).of_run(data.window)
    given = None if store is None else scans.fingerprint
    folder = scores_folder(run, split, protocol.folder_ending, given=given, own=loaded.record.get("store"))
    require_output(folder / SCORES)
    seed = loaded.config.seed
    model, masking = loaded.config.model, protocol.masking_of(loaded.config.masking)
    compared = compared_models(loaded)
    own = next((name for name, row in compared.items() if row is loaded.model), model.name)
    rows = {name: under(row, masking) for name, row in compared.items()}
    scored = score_models(rows, scans, regions, protocol, seed=seed, progress=progress)
    told = told_note(own, loaded.model)
    which = checkpoint_note(checkpoint, loaded.record["step"])
    notes = (which, *scored.notes, input_note(model, masking, scans), *told, split_note(data, split, regions))
    whom = "test" if split == "test" else "scored"
    seen = seen_note(loaded.record.get("seen"), [region.entry for region in regions], by="the model", whom=whom)
    notes = (*notes, *constant_note(own, loaded.model, data.window), seen)
    notes = (*notes, *verdict_note(scored.scores, own))
    table = tabulate(scored.scores, notes)
    write_scores(folder / SCORES, scored.scores)
    write_record(folder, Evaluated(checkpoint, loaded.record["step"], protocol, notes, scans.fingerprint))
    markdown = sheet_to_markdown(table.sheet)
    write_text(folder / "table.md", markdown)
    write_text(folder / "table.tex", sheet_to_latex(table.sheet))
    write_text(folder / "table.csv", frame_to_csv(table.summaries))
    if json_path is not None:
        write_json_scores(json_path, scored.scores, notes)
    return Evaluation(scored.scores, markdown, folder)


def compared_models(loaded: LoadedModel) -> dict[str, Reconstructor]:
    """The run's model, and the models that learn nothing, with the same grid and masks."""
    model = loaded.model
    device = next(model.parameters()).device
    untrained = {name: fill(model.grid, model.masking).to(device) for name, fill in UNTRAINED.items()}
    return {**model.entries(loaded.config.model.name), **untrained}
