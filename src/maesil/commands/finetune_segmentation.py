"""`maesil finetune segmentation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maesil.allocator import EVERYTHING, keep_freed_memory
from maesil.commands.parsing import Settings, console, parse, print_json
from maesil.errors import ConfigError
from maesil.files import quoted
from maesil.screen import scan_bar
from maesil.tasks.segmentation.config import FinetuneConfig


@dataclass(frozen=True)
class FinetuneSegmentation:
    """Train a segmentation network on a pre-trained encoder, and score it on the test scans.

    The store must be prepared with --labels. Writes RUN/scores.jsonl (Dice, HD95, NSD per scan and class) and the
    table. The same command resumes an interrupted run.

    Examples:
      maesil finetune segmentation --init runs/base --data.store store --run runs/organs
      maesil finetune segmentation --init runs/base --data.store store --run runs/liver --labels.classes liver spleen
      maesil finetune segmentation --init none --preset base --data.store store --run runs/scratch
      maesil finetune segmentation --init runs/base --data.store store --run runs/probe --model.mode linear
      maesil finetune segmentation --init runs/base --data.store store --run runs/fold0 --labels.folds 5 --labels.fold 0
    """

    config: Settings[FinetuneConfig]
    """The run's settings."""
    run: Path | None = None
    """The run folder to write or to resume."""
    json: bool = False
    """Print the scores as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Trains or resumes, then scores."""
    call = parse(FinetuneSegmentation, "finetune segmentation", words, FinetuneSegmentation(config=FinetuneConfig()))
    if call.run is None:
        raise ConfigError("no run folder is given", fix="--run RUN, a new folder or a run to resume")
    from maesil import pipeline

    keep_freed_memory(EVERYTHING)  # this process does nothing but train
    screen = console()
    outcome = pipeline.finetune_segmentation(call.config, call.run, console=screen)
    screen.print(f"{outcome.status} at step {outcome.step} of {outcome.steps}: {outcome.run}", markup=False)
    if outcome.status == "interrupted":
        screen.print("the same command resumes it")
        return 1
    with scan_bar(screen, "scoring") as progress:
        scored = pipeline.score_segmentation(call.run, progress=progress)
    if call.json:
        print_json({"run": str(call.run), "scores": scored.rows})
    else:
        print(scored.table)  # noqa: T201 (the result, on standard output)
    screen.print(f"next: maesil predict {quoted(call.run)} SCAN --out segmentation.nii.gz", markup=False)
    return 0
