"""Runs work on many scans, on dask workers or in this process."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maesil.allocator import keep_freed_memory
from maesil.cores import available_cores
from maesil.datasets import Scan
from maesil.errors import ConfigError, MaesilError, StoreError
from maesil.store.settings import PrepareConfig

Work = Callable[[Path, Scan, PrepareConfig], Any]
Worked = tuple[Scan, Any]
"""A scan, and what the work returned or the exception that it raised."""

_QUIET = {
    "distributed.scheduler.allowed-failures": 1,  # a scan that kills two workers will kill a third
    "distributed.scheduler.worker-saturation": 1.0,  # so that a dying worker takes no waiting scans with it
    "distributed.worker.memory.terminate": False,
    "distributed.admin.log-format": "%(message)s",
}
_GUARD = "in a script, put the call under `if __name__ == '__main__':`, or use workers=0"


def run_all(
    work: Work,
    store: Path,
    scans: Sequence[Scan],
    config: PrepareConfig,
    *,
    scheduler: str | None,
    workers: int | None,
    progress: Callable[[int, int, str], None] | None,
    kept: Work = lambda store, scan, config: None,
) -> list[Worked]:
    """Runs the work for every scan; an exception, or a worker's death, becomes the outcome of that scan.

    Args:
        work: Module-level function of store, scan and settings.
        store: Path of the store.
        scans: Scans to work on.
        config: Settings of the store.
        scheduler: Address of a dask scheduler; None: processes on this machine.
        workers: Number of processes on this machine; None: one per core; 0: none.
        progress: Function called before the first scan and after every one.
        kept: Function that returns the outcome of a scan on which no work is left, or else None. It runs in threads of
            this process, so that no process is started if nothing is left to do.

    Returns:
        The outcomes, in the order of `scans`.

    Raises:
        StoreError: The store cannot be written, so that no other scan would succeed.
        ConfigError: No scheduler answers, or no worker can be started.
    """
    outcomes: dict[Scan, Any] = {}
    stream = _outcomes(work, kept, store, scans, config, scheduler, workers)
    if progress is not None:
        progress(0, len(scans), "")
    for done, (scan, outcome) in enumerate(stream, start=1):
        if isinstance(outcome, StoreError):
            raise outcome
        outcomes[scan] = outcome
        if progress is not None:
            progress(done, len(scans), scan.brief)
    return [(scan, outcomes[scan]) for scan in scans]


def _outcomes(
    work: Work,
    kept: Work,
    store: Path,
    scans: Sequence[Scan],
    config: PrepareConfig,
    scheduler: str | None,
    workers: int | None,
) -> Iterator[Worked]:
    """Yields the outcomes as they come: first of scans on which no work is left."""
    if scheduler is not None:  # its workers have more disks and cores than this machine
        yield from _on_dask(work, store, scans, config, scheduler, workers)
        return
    if workers == 0:
        yield from _here(work, store, scans, config)
        return
    left = set[Scan]()
    with ThreadPoolExecutor(workers or available_cores()) as threads:
        asked = {threads.submit(kept, store, scan, config): scan for scan in scans}
        for future in as_completed(asked):
            if future.exception() is not None or future.result() is None:
                left.add(asked[future])  # the work itself says what is wrong
            else:
                yield asked[future], future.result()
    yield from _on_dask(work, store, [scan for scan in scans if scan in left], config, scheduler, workers)


def _here(work: Work, store: Path, scans: Sequence[Scan], config: PrepareConfig) -> Iterator[Worked]:
    for scan in scans:
        try:
            yield scan, work(store, scan, config)
        except Exception as error:
            yield scan, error


def _on_dask(
    work: Work, store: Path, scans: Sequence[Scan], config: PrepareConfig, scheduler: str | None, workers: int | None
) -> Iterator[Worked]:
    if not scans:
        return
    from distributed import as_completed as as_finished

    with _client(scheduler, workers, len(scans)) as client:
        scan_of = {_submit(client, work, store, scan, config): scan for scan in scans}
        suspects = list[Scan]()
        for future in as_finished(list(scan_of), loop=client.loop):
            scan, outcome = scan_of.pop(future), _outcome(future)
            if _is_death(outcome):
                suspects.append(scan)
            else:
                yield scan, outcome
        for scan in suspects:  # a dying worker loses other results too: run one at a time, the cause is certain
            outcome = _outcome(_submit(client, work, store, scan, config))
            yield scan, _killed() if _is_death(outcome) else outcome


def _submit(client: Any, work: Work, store: Path, scan: Scan, config: PrepareConfig) -> Any:
    # A scheduler shared with others tells tasks apart by their keys.
    key = f"scan-{uuid.uuid4().hex}"
    return client.submit(_alone, work, store, scan, config, pure=False, retries=0, key=key)


def _outcome(future: Any) -> Any:
    try:
        return future.result()
    except Exception as error:
        return error
    finally:
        future.release()


def _is_death(outcome: Any) -> bool:
    from distributed.scheduler import KilledWorker

    return isinstance(outcome, KilledWorker)


def _killed() -> MaesilError:
    fix = "usually for lack of memory: use fewer --workers, or a machine with more memory"
    return MaesilError("the process that read the scan was killed", fix=fix)


def _alone(work: Work, store: Path, scan: Scan, config: PrepareConfig) -> Any:
    """Runs the work in a worker, with one thread, because there is one worker per core."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    keep_freed_memory()
    return work(store, scan, config)


@contextmanager
def _client(scheduler: str | None, workers: int | None, scans: int) -> Iterator[Any]:
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(_QUIET):
        if scheduler is None:
            with (
                local_cluster(max(1, min(workers or CPU_COUNT, scans))) as cluster,
                Client(cluster, set_as_default=False) as client,
            ):
                yield client
            return
        try:
            client = Client(scheduler, timeout="20s", set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            fix = "start one: dask scheduler"
            raise ConfigError("no dask scheduler answers", where=scheduler, fix=fix) from error
        with client:
            yield client


def local_cluster(workers: int) -> Any:
    """Dask workers on this machine, each a process of one thread.

    Raises:
        ConfigError: The workers cannot be started.
    """
    from distributed import LocalCluster

    try:
        with _interrupts_held():
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                # None would still listen, on a port that may be taken.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
    except (RuntimeError, TimeoutError) as error:
        raise ConfigError("the worker processes cannot be started", where=str(error), fix=_GUARD) from error


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Lets only this process act on Ctrl-C, which reaches every process of a terminal.

    The cluster's thread starts with the signal blocked, and so do its workers, including later replacements.
    """
    import signal

    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()  # if it started with the first worker, it would unblock the signals of that thread
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def refuse_in_starting_worker() -> None:
    """Stops a script without a main guard in the workers, each of which runs the script again.

    Raises:
        ConfigError: This process is a worker that is still starting.
    """
    import multiprocessing

    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError("prepare was called while a worker process was starting", fix=_GUARD)
