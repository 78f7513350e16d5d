"""Work on many scans: on dask workers, or in this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maesil.datasets import Scan
from maesil.errors import ConfigError
from maesil.store.settings import PrepareConfig

Work = Callable[[Path, Scan, PrepareConfig], Any]
Outcome = tuple[Scan, Any]
"""A scan with what the work returned, or the exception it raised."""


def run_all(
    work: Work,
    store: Path,
    scans: Sequence[Scan],
    config: PrepareConfig,
    *,
    scheduler: str | None,
    workers: int | None,
    progress: Callable[[int, int, str], None] | None,
) -> list[Outcome]:
    """Does the work for every scan; an exception, or a worker's death, is that scan's outcome.

    Args:
        work: A module-level function of store, scan and settings.
        store: The store.
        scans: What to work on.
        config: Settings.
        scheduler: Address of a dask scheduler; None: processes on this machine.
        workers: Processes on this machine; None: one per core; 0: none.
        progress: Called after every scan.

    Returns:
        Outcomes in the order of `scans`.
    """
    outcomes: dict[Scan, Any] = {}
    stream = (
        _here(work, store, scans, config) if workers == 0 else _on_dask(work, store, scans, config, scheduler, workers)
    )
    for done, (scan, outcome) in enumerate(stream, start=1):
        outcomes[scan] = outcome
        if progress is not None:
            progress(done, len(scans), scan.scan_id)
    return [(scan, outcomes[scan]) for scan in scans]


def _here(work: Work, store: Path, scans: Sequence[Scan], config: PrepareConfig) -> Iterator[Outcome]:
    for scan in scans:
        try:
            yield scan, work(store, scan, config)
        except Exception as error:
            yield scan, error


def _on_dask(
    work: Work, store: Path, scans: Sequence[Scan], config: PrepareConfig, scheduler: str | None, workers: int | None
) -> Iterator[Outcome]:
    from distributed import as_completed

    with _client(scheduler, workers, len(scans)) as client:
        scan_of = {
            client.submit(work, store, scan, config, pure=False, retries=0, key=f"scan-{index}"): scan
            for index, scan in enumerate(scans)
        }
        for future in as_completed(list(scan_of), loop=client.loop):
            scan = scan_of.pop(future)
            outcome = future.result() if future.status == "finished" else future.exception()
            future.release()
            yield scan, _without_dask(outcome)


def _without_dask(outcome: Any) -> Any:
    """A killed worker, most often for memory, in words of our own."""
    from distributed.scheduler import KilledWorker

    if isinstance(outcome, KilledWorker):
        return ConfigError("the process that read it was killed", fix="most often for memory: use fewer --workers")
    return outcome


@contextmanager
def _client(scheduler: str | None, workers: int | None, scans: int) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    quiet = {
        "distributed.scheduler.allowed-failures": 1,  # a scan that kills two workers will kill a third
        "distributed.scheduler.worker-saturation": 1.0,  # so that a dying worker takes no waiting scans with it
        "distributed.worker.memory.terminate": False,
        "distributed.admin.log-format": "%(message)s",
    }
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(quiet):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="20s", set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                raise ConfigError(
                    "no dask scheduler answers", where=scheduler, fix="start one: dask scheduler"
                ) from error
            with client:
                yield client
            return
        count = min(workers or len(os.sched_getaffinity(0)), max(1, scans))
        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
