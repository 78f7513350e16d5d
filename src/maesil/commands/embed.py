"""`maesil embed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from maesil.commands.parsing import console, parse
from maesil.screen import scan_bar


@dataclass(frozen=True)
class Embed:
    """Write one vector per scan and per superpatch, with its position in mm.

    A superpatch's vector is the mean of its tokens whose patches are not air; a scan's vector is the mean over all such
    tokens. The columns `seen` and `groups` say whether the encoder was trained on the patient, and how tokens were
    divided.

    Examples:
      maesil embed runs/base store --out features.parquet        (pandas.read_parquet; needs the extra `tables`)
      maesil embed runs/base store --out features.csv
    """

    run: tyro.conf.Positional[str]
    """The encoder: a run, an exported folder, published weights, or hf://organisation/name."""
    store: tyro.conf.Positional[Path]
    """The prepared store."""
    out: Path
    """The table: .parquet, .csv or .npz; it replaces an earlier table, and no other file."""
    groups: tuple[int, int] = (1, 1)
    """Blocks of planes, and parts of each plane, that are encoded apart; 2 2: as many tokens at once as a dual mask of
    75 % leaves visible in pre-training. Compare only vectors of the same groups."""


def main(words: Sequence[str]) -> int:
    """Writes the table and prints its path."""
    call = parse(Embed, "embed", words)
    from maesil import pipeline

    screen = console()
    with scan_bar(screen, "embedding") as progress:
        path = pipeline.embed(call.run, call.store, call.out, groups=call.groups, console=screen, progress=progress)
    print(path)  # noqa: T201 (the result)
    return 0
