"""`maesil compare-transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maesil.allocator import EVERYTHING, keep_freed_memory
from maesil.commands.parsing import Settings, console, parse
from maesil.downstream.config import FinetuneConfig
from maesil.downstream.transfer import Amount
from maesil.errors import ConfigError


@dataclass(frozen=True)
class CompareTransfer:
    """Does pre-training help? Segmentation from a pre-trained encoder and from random weights, by amount of labels.

    Equal steps, the same labelled superpatches, the same test scans, several seeds; writes a table (.md, .tex, .csv), a
    curve with intervals, every score and a page. The same command continues an interrupted experiment.

    Examples:
      maesil compare-transfer --init runs/base --data.store store --scans 1 2 5 10 --out transfer
      maesil compare-transfer --init runs/base --data.store store --shares 0.1 0.3 1.0 --seeds 5 --out transfer
    """

    config: Settings[FinetuneConfig]
    """What is equal for all."""
    out: Path | None = None
    """The folder to write or to continue."""
    scans: tuple[int, ...] = ()
    """Numbers of labelled scans to try."""
    shares: tuple[float, ...] = ()
    """Shares of the labelled scans' superpatches to try."""
    seeds: int = 3
    """Repetitions of each."""


def main(words: Sequence[str]) -> int:
    """Runs the experiment and prints its table."""
    call = parse(CompareTransfer, "compare-transfer", words, CompareTransfer(config=FinetuneConfig()))
    if call.out is None:
        raise ConfigError("no folder is given", fix="--out DIR, a new folder or that of an experiment to continue")
    from maesil import pipeline

    keep_freed_memory(EVERYTHING)  # this process does nothing but train
    amounts = [Amount(scans=count) for count in sorted(call.scans)] + [Amount(share=s) for s in sorted(call.shares)]
    screen = console()

    def told(done: int, total: int, name: str) -> None:
        screen.print(f"{done}/{total} {name}", highlight=False)

    page = pipeline.compare_transfer(call.config, amounts, call.seeds, call.out, console=screen, progress=told)
    print((call.out / "table.md").read_text(encoding="utf-8"))  # noqa: T201 (the result, on standard output)
    screen.print(f"page: {page}")
    return 0
