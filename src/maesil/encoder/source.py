"""What names a pre-trained encoder: a local folder, published weights, or a model on the hub."""

from __future__ import annotations

from pathlib import Path

from maesil.catalog import NONE, hint
from maesil.errors import CheckpointError, ConfigError
from maesil.runs.published import is_published, published, published_names

HUB = "hf://"


def local_folder(source: str) -> Path | None:
    """The local folder of an encoder, fetched if it is a name of published weights; None for a model on the hub.

    Args:
        source: Anything `maesil.load` accepts.

    Raises:
        CheckpointError: There is no such folder, and the name cannot be one on the hub; or published weights differ
            from their checksums.
        DownloadError: Published weights cannot be fetched.
        ConfigError: It begins as a name on the hub, but is none; or it is the name of published weights and of
            something else here.
    """
    if is_published(source):
        return published(source)
    path = Path(source)
    if path.exists():
        return path
    name = source.removeprefix(HUB)
    if not source.startswith(HUB) and (name.count("/") != 1 or name.startswith((".", "/", "~")) or _is_near(path)):
        raise CheckpointError(
            "there is no such folder, and no published weights have this name",
            where=path,
            fix=hint(source, published_names())
            + ", ".join(("give a run, an exported folder, hf://organisation/name", *published_names())),
        )
    if name.count("/") != 1:
        raise ConfigError(f"'{source}' is not the name of a model on the hub", fix="hf://organisation/name")
    return None


def absolute_source(source: str) -> str:
    """The absolute path of an encoder's local folder; a name stays as it is."""
    if source == NONE or is_published(source) or not Path(source).exists():
        return source
    return str(Path(source).resolve())


def _is_near(path: Path) -> bool:
    """Whether the path's parent folder exists, as in runs/WRONG: then it is a mistyped path, not a name on the hub."""
    return path.parent.is_dir()
