"""What names a pre-trained encoder: a local folder, or a model on the hub."""

from __future__ import annotations

from pathlib import Path

from maesil.errors import CheckpointError, ConfigError

HUB = "hf://"
NONE = "none"
"""What stands in place of an encoder: the same architecture with random weights."""


def local_folder(source: str) -> Path | None:
    """The local folder of an encoder; None if the name is that of a model on the hub.

    Args:
        source: Anything `maesil.load` accepts.

    Raises:
        CheckpointError: There is no such folder, and the name cannot be one on the hub.
        ConfigError: It begins as a name on the hub, but is none.
    """
    path = Path(source)
    if path.exists():
        return path
    name = source.removeprefix(HUB)
    if not source.startswith(HUB) and (name.count("/") != 1 or name.startswith((".", "/", "~")) or _is_near(path)):
        raise CheckpointError(
            "there is no such folder", where=path, fix="give a run, an exported folder, or hf://organisation/name"
        )
    if name.count("/") != 1:
        raise ConfigError(f"'{source}' is not the name of a model on the hub", fix="hf://organisation/name")
    return None


def _is_near(path: Path) -> bool:
    """Whether the path's parent folder exists, as in runs/WRONG: then it is a mistyped path, not a name on the hub."""
    return path.parent.is_dir()
