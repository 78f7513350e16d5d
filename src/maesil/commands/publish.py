"""`maesil publish`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from maesil.commands.parsing import parse


@dataclass(frozen=True)
class Publish:
    """Write a run's weights for others: fp16, at most 30 MB, with card, licences and checksums.

    The folder src/maesil/weights/NAME is loaded by `maesil.load("NAME")` after its digest, which this command prints,
    is added to src/maesil/runs/published.json. If the decoder fits too, every command that takes a run takes the
    folder.

    Examples:
      maesil publish runs/small --out src/maesil/weights/small --about small.md
    """

    run: tyro.conf.Positional[Path]
    """The run or checkpoint folder."""
    out: Path
    """The folder to write; its name is that of the weights."""
    about: Path
    """Markdown file for the card: data with their licences and attributions, scores with their protocol, command, cost,
    limits."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of the run's checkpoints to publish."""


def main(words: Sequence[str]) -> int:
    """Writes the folder; prints its path and its line for published.json."""
    call = parse(Publish, "publish", words)
    from maesil import pipeline

    done = pipeline.publish(call.run, call.out, call.about, checkpoint=call.checkpoint)
    what = "encoder and decoder" if done.whole else "the encoder alone"
    print(f"{done.folder}  ({what}, {done.size / 1e6:.1f} MB)")  # noqa: T201 (the result)
    print(f'"{done.folder.name}": "{done.digest}"')  # noqa: T201
    return 0
