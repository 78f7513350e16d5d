"""The export of a pre-trained encoder to a target."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

from maesil.encoder.card import TRANSFER, Transfer, model_card
from maesil.errors import ConfigError
from maesil.export import TARGETS
from maesil.files import write_text
from maesil.models.backbone import Backbone

Writer = Callable[[Backbone, Transfer, Path], str]
"""(backbone, its description, folder) -> lines of Python that load the folder, for its model card.

A writer puts the weights into the folder, and its own transfer.json if it has something to add.
"""


def export(backbone: Backbone, transfer: Transfer, target: str, out: Path) -> Path:
    """Writes the encoder, transfer.json and README.md (the model card) into a folder.

    Args:
        backbone: The encoder, on any device; it is moved to the CPU.
        transfer: The description of the encoder.
        target: A name in `TARGETS`.
        out: The output folder: new, empty, or an earlier export, which is replaced.

    Raises:
        ConfigError: The output folder contains something else.
        MissingExtraError: The target needs a package that is not installed.
    """
    _, writer = TARGETS[target]
    write: Writer = resolve_name(f"{__package__}.{writer}")
    if out.exists() and not out.is_dir():
        raise ConfigError("this is a file", where=out, fix="give a folder: --out DIR")
    if out.is_dir() and any(out.iterdir()) and not (out / TRANSFER).is_file():
        raise ConfigError("this folder is neither empty nor an export", where=out, fix="give a new one: --out DIR")
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        card = replace(transfer, target=target)
        card.write(draft)
        usage = write(backbone.cpu().eval(), card, draft)
        write_text(draft / "README.md", model_card(card, usage))
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out
