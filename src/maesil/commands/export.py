"""`maesil export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from maesil.catalog import listing
from maesil.commands.parsing import lists, parse
from maesil.export import TARGETS


@lists(targets=listing({name: purpose for name, (purpose, _) in TARGETS.items()}))
@dataclass(frozen=True)
class Export:
    """Write a pre-trained encoder for another tool: weights, transfer.json, a model card with the code to load them.

    Targets:
    {targets}

    Examples:
      maesil export runs/base --to monai --out base-monai
      maesil export runs/base --to huggingface --out base-hf
      maesil export runs/base --to nnunet --out base-nnunet     (prints the lines to run in nnU-Net)
    """

    run: tyro.conf.Positional[str]
    """The run or checkpoint folder, an exported folder with model.safetensors, published weights, or hf://ORGANISATION/NAME."""
    to: Annotated[str, tyro.conf.arg(metavar="|".join(TARGETS))]
    """The target to export for."""
    out: Path
    """The output folder: new, empty, or an earlier export of the same weights."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of the run's checkpoints to load."""


def main(words: Sequence[str]) -> int:
    """Writes the folder and prints its path."""
    call = parse(Export, "export", words)
    TARGETS[call.to]  # raises for an unknown name and suggests the nearest one
    from maesil import pipeline

    out = pipeline.export(call.run, call.to, call.out, checkpoint=call.checkpoint)
    print(out)  # noqa: T201 (the result)
    if call.to == "nnunet":
        from maesil.export.nnunet import lines_for

        print(f"\n{lines_for(out)}", end="")  # noqa: T201
    return 0
