from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from maesil import pipeline
from maesil.config import RunConfig
from maesil.errors import ConfigError
from maesil.rank import GLOBAL, VARIABLES, is_first_rank
from maesil.runs.kinds import (
    CLASSIFICATION,
    COMPARISON,
    LABEL_EFFICIENCY,
    MADE_BY,
    PRETRAINING,
    PROBE,
    SEGMENTATION,
)
from maesil.runs.lock import locked

HOLD = (
    "import sys, time; from pathlib import Path; from maesil.runs.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def test_locked__names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {holder.pid} on {socket.gethostname()}"), locked(run):
            raise AssertionError("two calls")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(timeout=10)
    with locked(run):
        pass
    assert (run / ".lock").read_bytes() == b""


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_locked__ranks_share_the_lock_of_the_first(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(tmp_path):
        monkeypatch.setenv(variable, "1")
        with locked(tmp_path):
            pass
        monkeypatch.setenv(variable, "0")
        with pytest.raises(ConfigError, match="another call"), locked(tmp_path):
            raise AssertionError("two first ranks")


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({}, True),
        ({"NODE_RANK": "0"}, True),
        ({"NODE_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, False),
        ({"GROUP_RANK": "1"}, False),
        ({"GROUP_RANK": "1", "LOCAL_RANK": "0", "RANK": "2"}, False),
        ({"GROUP_RANK": "0", "LOCAL_RANK": "0", "RANK": "0"}, True),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0", "RANK": "0"}, True),  # torchrun knows best
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "3"}, False),
        ({"SLURM_PROCID": "4", "LOCAL_RANK": "0"}, False),  # the first of the second machine
    ],
    ids=str,
)
def test_is_first_rank__of_all_machines(given: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (GLOBAL, *VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert is_first_rank() == first


def test_locked__a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be created"), locked(tmp_path / "file" / "run"):
        raise AssertionError("a run within a file")
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be written"), locked(tmp_path / "run"):
        raise AssertionError("a folder as a lock")


def test_locked__an_error_within_is_not_taken_for_one_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path):
        (tmp_path / "absent").read_text()
    with locked(tmp_path):
        pass


def test_locked__a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(file: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("maesil.oslock._lock", no_locks)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        pass
    assert "this file system has no locks" in caplog.text


def test_pretrain__a_second_call_on_a_run_is_refused(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with locked(run), pytest.raises(ConfigError, match=f"process {os.getpid()} on .*"):
        pipeline.pretrain(tiny_config, run)
    assert [path.name for path in run.iterdir()] == [".lock"]
    assert pipeline.pretrain(tiny_config, run).status == "finished"


def test_locked__refuses_a_store_and_a_folder_of_scans(tiny_store: Path, tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    for folder, kind in ((tiny_store, "is a store"), (tmp_path, "holds scans")):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(ConfigError, match=kind), locked(folder):
            pass
        assert sorted(path.name for path in folder.iterdir()) == before


def test_locked__a_run_with_a_reconstruction_in_it_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with locked(run):
        (run / "rebuilt.nii.gz").touch()
    with locked(run):
        assert (run / "rebuilt.nii.gz").exists()


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("config.yaml", "model: {name: maesil}\n", "pretrain"),
        ("config.yaml", "labels: {}\n", "finetune segmentation"),
        ("config.json", '{"settings": {}}', "finetune classification"),
        ("comparison.json", "{}", "compare"),
        ("experiment.json", "{}", "compare-transfer"),
        ("scores.jsonl", '{"target": "organs", "probe": "linear"}\n', "probe"),
        ("transfer.json", "{}", "export"),
    ],
)
def test_locked__refuses_a_folder_of_another_kind(name: str, content: str, command: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    for kind in (PRETRAINING, SEGMENTATION, CLASSIFICATION, COMPARISON, LABEL_EFFICIENCY, PROBE):
        if MADE_BY[kind] == f"maesil {command}":
            continue
        with pytest.raises(ConfigError, match=f"what `maesil {command}` wrote"), locked(tmp_path, kind):
            raise AssertionError("two kinds in a folder")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    own = [kind for kind, made_by in MADE_BY.items() if made_by == f"maesil {command}"]
    with locked(tmp_path, own[0]):
        pass
