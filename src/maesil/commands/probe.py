"""`maesil probe`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from maesil.commands.parsing import console, parse
from maesil.encoder.pool import Pool
from maesil.screen import scan_bar


@dataclass(frozen=True)
class Probe:
    """How much frozen features tell about organs and datasets, after every block, next to those of random weights.

    Probes are trained on the store's training patients. Organs are told from the pooled tokens of a superpatch and from
    the token of a patch; the store must be prepared with --labels. Datasets, if there are several, are told from pooled
    tokens. Writes DIR/table.md, table.csv and scores.jsonl.

    Examples:
      maesil probe runs/base store --out probed
      maesil probe runs/base store --out probed --classes liver spleen --split val
      maesil probe runs/base store --out probed --groups 2 2 --pool mean_std
    """

    run: tyro.conf.Positional[str]
    """The encoder: a run, an exported folder, published weights, or hf://organisation/name."""
    store: tyro.conf.Positional[Path]
    """The prepared store."""
    out: Path
    """The folder to write."""
    classes: tuple[str, ...] = ()
    """Organs to ask for; none: all that every labelled scan names."""
    split: Literal["val", "test"] = "test"
    """The split to test on."""
    starts: int = 3
    """Number of random starts to compare with."""
    groups: tuple[int, int] = (1, 1)
    """Blocks of planes, and parts of each plane, that are encoded apart; 2 2: as many tokens at once as a dual mask of
    75 % leaves visible in pre-training."""
    pool: Pool = "mean"
    """What a superpatch's vector keeps of its tokens: their mean, or their mean and standard deviation."""


def main(words: Sequence[str]) -> int:
    """Writes the table and prints it."""
    call = parse(Probe, "probe", words)
    from maesil import pipeline

    with scan_bar(console(), "encoding") as progress:
        found = pipeline.probe(
            call.run,
            call.store,
            call.out,
            classes=call.classes,
            split=call.split,
            starts=call.starts,
            groups=call.groups,
            pool=call.pool,
            progress=progress,
        )
    print(found.table)  # noqa: T201 (the result)
    return 0
