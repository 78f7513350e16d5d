"""One writer per store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from maesil import oslock
from maesil.errors import StoreError
from maesil.store.format import LOCK


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Locks the store for one `prepare`. The system releases the lock with its process, even if that is killed.

    Raises:
        StoreError: The store cannot be written, or another process holds it.
    """

    def refused(holder: str) -> StoreError:
        what = f"another `maesil prepare` is writing this store: {holder}"
        return StoreError(what, where=store, fix="let it finish, or stop it")

    with ExitStack() as held:
        try:
            store.mkdir(parents=True, exist_ok=True)
            held.enter_context(oslock.locked(store / LOCK, refused))
        except OSError as error:
            what = f"the store cannot be written: {error.strerror}"
            raise StoreError(what, where=store, fix="choose another --out") from error
        yield
