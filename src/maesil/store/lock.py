"""One writer per store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from maesil.errors import StoreError
from maesil.store.format import LOCK


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Locks the store for one `prepare`. The system releases the lock with its process, even if that is killed.

    Raises:
        StoreError: The store cannot be written, or another process holds it.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        file = (store / LOCK).open("a+")
    except OSError as error:
        what = f"the store cannot be written: {error.strerror}"
        raise StoreError(what, where=store, fix="choose another --out") from error
    with file:
        try:
            _lock(file)
        except OSError:
            raise StoreError(
                "another `maesil prepare` is writing this store", where=store, fix="let it finish"
            ) from None
        yield


def _lock(file: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
