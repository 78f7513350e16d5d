"""A training in a process of its own says why it failed, and passes an interruption on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from maesil.comparison.child import ChildFailedError, _reason, pretrain_apart
from maesil.config import RunConfig, dump_yaml
from maesil.runs.checkpoints import steps_done


def settings(config: RunConfig, folder: Path) -> Path:
    path = folder / "wanted.yaml"
    path.write_text(dump_yaml(config))
    return path


def test_pretrain_apart__says_what_the_training_said(tiny_config: RunConfig, tmp_path: Path) -> None:
    broken = replace(tiny_config, data=replace(tiny_config.data, store=tmp_path / "nowhere"))
    with pytest.raises(ChildFailedError, match="nowhere"):
        pretrain_apart(settings(broken, tmp_path), tmp_path / "run")


def test_pretrain_apart__names_no_next_command(
    tiny_config: RunConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The comparison goes on by itself."""
    short = replace(tiny_config, train=replace(tiny_config.train, steps=1))
    pretrain_apart(settings(short, tmp_path), tmp_path / "run")
    printed = capfd.readouterr()
    assert "finished at step 1 of 1" in printed.err
    assert "next:" not in printed.err
    assert printed.out == ""


def test_reason__names_the_signal() -> None:
    assert "SIGKILL, probably out of memory" in _reason(-9, "")
    assert _reason(2, "step 1\nmaesil: no store\n  fix: a store\n") == "no store; fix: a store"
    assert "Boom" in _reason(1, "Traceback\nBoom\n")


@pytest.mark.slow
def test_pretrain_apart__an_interruption_saves_and_ends_both(tiny_config: RunConfig, tmp_path: Path) -> None:
    long = replace(tiny_config, train=replace(tiny_config.train, steps=100_000))
    path, run = settings(long, tmp_path), tmp_path / "run"
    code = "import sys, pathlib, maesil.comparison.child as c; c.pretrain_apart(*map(pathlib.Path, sys.argv[1:]))"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(run)], stderr=subprocess.PIPE, env={**os.environ}
    )
    deadline = time.monotonic() + 120
    while steps_done(run) < 3 and time.monotonic() < deadline:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    assert b"interrupted at step" in said
    assert steps_done(run) >= 3
