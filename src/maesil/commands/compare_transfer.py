"""`maesil compare-transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maesil.allocator import EVERYTHING, keep_freed_memory
from maesil.commands.parsing import Settings, console, parse
from maesil.counts import count_of
from maesil.errors import ConfigError
from maesil.tasks.segmentation.config import FinetuneConfig, ScratchConfig


@dataclass(frozen=True)
class CompareTransfer:
    """Does pre-training help? Segmentation from a pre-trained encoder and from random weights, by amount of labels.

    Both use equal steps, the same labelled superpatches, the same test scans and several seeds. Writes a table (as .md,
    as .tex and as .csv), a curve with intervals, every score and a page. The same command continues an interrupted
    experiment. Exit status 1: a trial failed; the others are in the table.

    Lower blocks of the pre-trained encoder learn more slowly (--model.layer-decay); random weights learn at one rate
    in all layers (--scratch.layer-decay). With --rates, each start uses the learning rate that scores best for it on
    the validation patients; without, both use --train.peak-lr, unless --scratch.peak-lr is given.

    Examples:
      maesil compare-transfer --init runs/base --data.store store --scans 1 2 5 10 --out transfer
      maesil compare-transfer --init runs/base --data.store store --shares 0.1 0.3 1.0 --seeds 5 --out transfer
      maesil compare-transfer --init runs/base --data.store store --scans 1 5 --rates 3e-4 1e-3 3e-3 --out transfer
    """

    config: Settings[FinetuneConfig]
    """The settings that all trainings share."""
    out: Path | None = None
    """The folder to write or to continue."""
    scans: tuple[int, ...] = ()
    """Numbers of labelled scans to try."""
    shares: tuple[float, ...] = ()
    """Shares of the labelled scans' superpatches to try."""
    seeds: int = 3
    """Repetitions per amount and start."""
    rates: tuple[float, ...] = ()
    """Peak learning rates to try; each start uses the one that is best on validation patients at the largest amount."""
    scratch: ScratchConfig = field(default_factory=ScratchConfig)
    """Settings that differ for random weights."""


def main(words: Sequence[str]) -> int:
    """Runs the experiment and prints its table."""
    call = parse(CompareTransfer, "compare-transfer", words, CompareTransfer(config=FinetuneConfig()))
    if call.out is None:
        raise ConfigError("no output folder is given", fix="--out DIR, a new folder or an experiment to continue")
    from maesil import pipeline
    from maesil.tasks.segmentation.trials import Amount

    keep_freed_memory(EVERYTHING)  # this process does nothing but train
    amounts = [Amount(scans=count) for count in sorted(call.scans)] + [Amount(share=s) for s in sorted(call.shares)]
    screen = console()

    def report(done: int, total: int, name: str) -> None:
        screen.print(f"{done}/{total} {name}", highlight=False)

    experiment, page = pipeline.compare_transfer(
        call.config,
        amounts,
        call.seeds,
        call.out,
        scratch=call.scratch,
        rates=sorted(call.rates),
        console=screen,
        progress=report,
    )
    print((call.out / "table.md").read_text(encoding="utf-8"))  # noqa: T201 (the result, on standard output)
    screen.print(f"page: {page}", markup=False)
    failed = [trial.name for trial in experiment.trials if trial.failed]
    if failed:
        reasons = f"reasons in {call.out / 'table.md'}, trainings in {call.out / 'runs'}"
        screen.print(
            f"{len(failed)} of {count_of(len(experiment.trials), 'trial')} failed: {'; '.join(failed)} ({reasons})",
            markup=False,
            highlight=False,
        )
    return 1 if failed else 0
