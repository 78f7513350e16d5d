from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster, WorkerPlugin

from maesil.ct.volume import Volume
from maesil.datasets import Scan
from maesil.errors import ConfigError, MaesilError, ScanError, StoreError
from maesil.store import writing
from maesil.store.parallel import run_all
from maesil.store.prepare import PrepareConfig, prepare

CONFIG = PrepareConfig(spacing_mm=3.0, chunk=16, shard=32, salt="test")
OPTIONS: dict[str, Any] = {
    "processes": True, "dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}, "silence_logs": 50
}  # fmt: skip
SCANS = [Scan(f"scan-{number}", "set", "p", Path(f"{number}")) for number in range(4)]


def even_only(store: Path, scan: Scan, config: PrepareConfig) -> str:
    number = int(scan.path.name)
    if number % 2:
        raise ScanError(f"{number} is odd", where=scan.path, fix="add one")
    return f"{store.name} {number} {config.spacing_mm}"


def full_disk(store: Path, scan: Scan, config: PrepareConfig) -> str:
    raise StoreError("no space", where=store)


def outcomes(workers: int | None, scheduler: str | None = None) -> list[Any]:
    done = run_all(
        even_only, Path("store"), SCANS, CONFIG, scheduler=scheduler, workers=workers, progress=lambda *_: None
    )
    assert [scan for scan, _ in done] == SCANS
    return [outcome for _, outcome in done]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, **OPTIONS) as running:
        yield running


@pytest.mark.parametrize("where", ["here", "scheduler"])
def test_run_all__an_error_is_its_own_scans_outcome(where: str, cluster: LocalCluster) -> None:
    done = outcomes(0) if where == "here" else outcomes(None, cluster.scheduler_address)
    assert done[::2] == ["store 0 3.0", "store 2 3.0"]
    for number, error in zip((1, 3), done[1::2], strict=True):
        assert isinstance(error, ScanError)
        assert (error.what, error.where, error.fix) == (f"{number} is odd", str(number), "add one")


def test_run_all__a_store_that_cannot_be_written_ends_it() -> None:
    with pytest.raises(StoreError, match="no space"):
        run_all(full_disk, Path("store"), SCANS, CONFIG, scheduler=None, workers=0, progress=None)


def test_run_all__no_scans_start_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_all(even_only, Path("store"), [], CONFIG, scheduler="tcp://nowhere:1", workers=None, progress=None) == []


def test_prepare__a_scheduler_that_does_not_answer(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no dask scheduler") as raised:
        prepare([sources], tmp_path / "store", CONFIG, scheduler="nonsense://127.0.0.1:1")
    assert "dask scheduler" in str(raised.value)


class Poison(WorkerPlugin):
    """Kills the worker that reads a certain scan, as a machine short of memory does; restarted workers get it, too."""

    def setup(self, worker: Any) -> None:
        sound = writing.read

        def deadly(path: Path, **how: Any) -> Volume:
            if path.name == "b.nii.gz":
                os.kill(os.getpid(), signal.SIGKILL)
            return sound(path, **how)

        writing.read = deadly


@pytest.mark.slow
def test_prepare__a_scan_that_kills_its_workers_is_quarantined_and_the_others_are_not(
    sources: Path, tmp_path: Path
) -> None:
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, **OPTIONS) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(Poison())
        report = prepare([sources], tmp_path / "store", CONFIG, scheduler=cluster.scheduler_address)
    assert report.prepared == ("set-a", "set-c")
    (row,) = report.quarantined
    assert row.scan_id == "set-b"
    assert "killed" in row.reason
    assert "memory" in row.fix
    assert not list((tmp_path / "store" / "scans").glob(".draft-*"))


def test_prepare__a_script_without_a_main_guard_is_told_so(sources: Path, tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from pathlib import Path\n"
        "from maesil.store.prepare import PrepareConfig, prepare\n"
        f"prepare([Path({str(sources)!r})], Path({str(tmp_path / 'store')!r}), PrepareConfig(salt='s'), workers=1)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ConfigError: the worker processes cannot be started" in done.stderr
    assert "if __name__ == '__main__'" in done.stderr


def test_importing_the_store_loads_no_heavy_library() -> None:
    check = (
        "import sys, maesil.store.prepare, maesil.store.scanstore\n"
        "print([name for name in ('dask', 'distributed', 'torch', 'pydicom', 'nibabel') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_cross_process_borders(cluster: LocalCluster) -> None:
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        error = client.submit(MaesilError, "what", where="there", fix="so").result()
    assert (error.what, error.where, error.fix) == ("what", "there", "so")
