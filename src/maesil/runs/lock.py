"""One call at a time per run folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from maesil import oslock
from maesil.errors import ConfigError
from maesil.files import make_folder
from maesil.rank import is_first_rank

NAME = ".lock"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Locks a run folder for one call, whose first rank holds the lock for all of its ranks.

    The system releases the lock with its process, even if that is killed: the same call can then resume.

    Raises:
        ConfigError: The folder cannot be written, or another call holds it; the message says which process.
    """

    def refused(holder: str) -> ConfigError:
        what = f"another call is writing this folder: {holder}"
        fix = "let it finish, or stop it and start again to resume, or give another folder"
        return ConfigError(what, where=run, fix=fix)

    with ExitStack() as held:
        if is_first_rank():
            make_folder(run)
            try:
                held.enter_context(oslock.locked(run / NAME, refused))
            except OSError as error:
                what = f"the folder cannot be written: {error.strerror}"
                raise ConfigError(what, where=run, fix="give another") from error
        yield
