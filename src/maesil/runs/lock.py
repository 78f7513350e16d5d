"""One call at a time per run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from maesil import oslock
from maesil.ct.readers import volume_endings
from maesil.errors import ConfigError
from maesil.files import make_folder
from maesil.rank import is_first_rank
from maesil.runs.kinds import PRETRAINING, refuse_other_kind
from maesil.runs.published import warn_of_published_name
from maesil.store.format import MANIFEST

NAME = ".lock"


@contextmanager
def locked(run: Path, kind: str = PRETRAINING) -> Iterator[None]:
    """Locks a run folder for one call, whose first rank holds the lock for all of its ranks.

    The system releases the lock with its process, even if that is killed: the same call can then resume.

    Args:
        run: The folder, created if absent.
        kind: The kind of results that the call writes, one of `maesil.runs.kinds.MADE_BY`.

    Raises:
        ConfigError: The folder is a store or holds scans or results of another kind, it cannot be written, or another
            call holds it; the message says which process.
    """

    def refused(holder: str) -> ConfigError:
        what = f"another call is writing this folder: {holder}"
        fix = "let it finish, or stop it and start again to resume, or give another folder"
        return ConfigError(what, where=run, fix=fix)

    with ExitStack() as held:
        if is_first_rank():
            refuse_data(run)
            refuse_other_kind(run, kind)
            warn_of_published_name(run)
            make_folder(run)
            try:
                held.enter_context(oslock.locked(run / NAME, refused))
            except OSError as error:
                what = f"the folder cannot be written: {error.strerror}"
                raise ConfigError(what, where=run, fix="give another") from error
        yield


def refuse_data(run: Path) -> None:
    """Checks that results are not written among data.

    Raises:
        ConfigError: The folder is a store, or holds scans and no earlier results.
    """
    fix = "give a new folder"
    if (run / MANIFEST).is_file():
        raise ConfigError("this folder is a store, no place for results", where=run, fix=fix)
    if (run / NAME).exists():  # an earlier call's folder, into which somebody may have written a reconstruction
        return
    if run.is_dir() and any(path.name.lower().endswith(volume_endings()) for path in run.iterdir()):
        raise ConfigError("this folder holds scans; results would be written among them", where=run, fix=fix)
