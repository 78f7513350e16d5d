"""The export of a pre-trained encoder to a target."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

from maesil.encoder.card import Transfer, model_card
from maesil.encoder.start import digest_of
from maesil.errors import ConfigError
from maesil.export import TARGETS
from maesil.export.earlier import DIGEST, require_same_weights
from maesil.files import write_text
from maesil.models.backbone import Backbone
from maesil.runs.kinds import EXPORTED
from maesil.runs.published import warn_of_published_name

Writer = Callable[[Backbone, Transfer, Path], str]
"""(backbone, its description, folder) -> lines of Python that load the folder, for its model card.

A writer puts the weights into the folder, and its own transfer.json if it has something to add.
"""

NEW_FOLDER = "give a new folder: --out DIR"


def export(backbone: Backbone, transfer: Transfer, target: str, out: Path) -> Path:
    """Writes the encoder, transfer.json and README.md (the model card) into a folder.

    Args:
        backbone: The encoder, on any device; it is moved to the CPU.
        transfer: The description of the encoder.
        target: A name in `TARGETS`.
        out: The output folder: new, empty, or an earlier export of the same weights with the same files, which are
            replaced.

    Returns:
        The absolute path of the folder.

    Raises:
        ConfigError: The output folder contains something else, or other weights.
        MissingExtraError: The target needs a package that is not installed.
    """
    out = out.resolve()  # "." has no name, and a link is not a folder to replace
    _, writer = TARGETS[target]
    write: Writer = resolve_name(f"{__package__}.{writer}")
    if out.exists() and not out.is_dir():
        raise ConfigError("this is a file", where=out, fix="give a folder: --out DIR")
    if out.is_dir() and any(out.iterdir()) and not (out / EXPORTED).is_file():
        raise ConfigError("this folder is neither empty nor an export", where=out, fix=NEW_FOLDER)
    digest = digest_of(backbone)
    require_same_weights(out, transfer, digest)
    warn_of_published_name(out)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        card = replace(transfer, target=target)
        card.write(draft)
        usage = write(backbone.cpu().eval(), card, draft)
        _note_digest(draft, digest)
        write_text(draft / "README.md", model_card(card, usage))
        replace_folder(out, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def _note_digest(folder: Path, digest: str) -> None:
    """Adds the digest of the encoder's weights to transfer.json, whose notes a writer may have replaced."""
    written = Transfer.read(folder)
    replace(written, notes={**written.notes, DIGEST: digest}).write(folder)


def replace_folder(out: Path, draft: Path) -> None:
    """Moves a written folder to its place, where an earlier one with no other files may be.

    An earlier folder stays and gets the new files, as it may be the working folder.

    Args:
        out: The place.
        draft: The folder, in the same parent.

    Raises:
        ConfigError: Files in the place would be lost: they are no part of what is written.
    """
    others = sorted(_files(out) - _files(draft))
    if others:
        more, them = (f" and {len(others) - 1} more", "them") if len(others) > 1 else ("", "it")
        raise ConfigError(
            f"'{others[0]}'{more} would be lost: this command does not write {them}", where=out, fix=NEW_FOLDER
        )
    if not out.is_dir():
        draft.rename(out)
        return
    # The description comes last: the folder is an export of the new files or, until then, of the earlier ones.
    for entry in sorted(draft.iterdir(), key=lambda entry: entry.name == EXPORTED):
        there = out / entry.name
        if there.is_dir() and not there.is_symlink():
            shutil.rmtree(there, ignore_errors=True)
        entry.replace(there)
    draft.rmdir()
    shutil.rmtree(out / "__pycache__", ignore_errors=True)  # of the earlier code


def _files(folder: Path) -> set[str]:
    """Files below a folder, without the bytecode that Python leaves where it imports an export's code."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}
