"""Stopping a training by signals."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from maesil import pipeline
from maesil.config import RunConfig
from maesil.runs.checkpoints import steps_done
from maesil.training.callbacks import STOPPING, GracefulStop
from maesil.training.module import PretrainModule


def test_graceful_stop__answers_at_once_and_a_second_signal_stops_now(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    stop, trainer, module = GracefulStop(said.append), pl.Trainer(logger=False), pl.LightningModule()
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if the tests run in the background
    before = signal.getsignal(signal.SIGINT)
    stop.on_train_start(trainer, module)
    monkeypatch.setattr(pl.Trainer, "global_step", 1)  # something would be lost
    try:
        os.kill(os.getpid(), signal.SIGINT)  # in the middle of a step: no callback runs
        assert (stop.requested, said) == (True, [STOPPING])
        os.kill(os.getpid(), signal.SIGTERM)  # at once: a scheduler's, for the same stop
        monkeypatch.setattr("maesil.training.callbacks.ECHO_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        stop.on_train_end(trainer, module)
        after = signal.signal(signal.SIGINT, outside)
    assert after is before


def test_graceful_stop__of_a_line_that_is_being_printed() -> None:
    def busy(text: str) -> None:
        raise RuntimeError("reentrant call inside a writer")

    stop = GracefulStop(busy)
    stop._request(signal.SIGINT, None)
    assert stop.requested


@pytest.mark.parametrize(("ranks", "done"), [(1, 5), (2, 0)], ids=["a step is done", "other ranks wait"])
def test_graceful_stop__lets_the_step_end(ranks: int, done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    stop, trainer = GracefulStop(said.append), pl.Trainer(logger=False)
    outside = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop.on_train_start(trainer, pl.LightningModule())
    try:
        monkeypatch.setattr(pl.Trainer, "world_size", ranks)
        monkeypatch.setattr(pl.Trainer, "global_step", done)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (stop.requested, said) == (True, [STOPPING])
    finally:
        for number, handler in outside.items():
            signal.signal(number, handler)


def signalled_in_step(monkeypatch: pytest.MonkeyPatch, at: int, times: int) -> None:
    """Lets a training get a signal in the middle of a step."""
    usual = PretrainModule.batch_loss

    def batch_loss(module: PretrainModule, batch: Any) -> Any:
        for _ in range(times if module.global_step == at else 0):
            os.kill(os.getpid(), signal.SIGTERM)
        return usual(module, batch)

    monkeypatch.setattr(PretrainModule, "batch_loss", batch_loss)


def test_pretrain__stops_at_once_in_its_first_step(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of a large network takes minutes on a CPU, and nothing would be lost."""
    with monkeypatch.context() as signals:
        signalled_in_step(signals, at=0, times=1)
        with pytest.raises(KeyboardInterrupt):
            pipeline.pretrain(tiny_config, tmp_path / "run")
    assert steps_done(tmp_path / "run") == 0
    assert pipeline.pretrain(tiny_config, tmp_path / "run").status == "finished"


@pytest.mark.parametrize("times", [1, 2])
def test_pretrain__stops_after_the_step_at_the_first_sigterm_and_at_once_at_the_second(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("maesil.training.callbacks.ECHO_S", 0.0)
    signalled_in_step(monkeypatch, at=2, times=times)
    if times == 1:
        assert pipeline.pretrain(tiny_config, tmp_path / "run").status == "interrupted"
        assert not (tmp_path / "run" / "checkpoints" / "best").exists(), "no validation was due"
    else:
        with pytest.raises(KeyboardInterrupt):
            pipeline.pretrain(tiny_config, tmp_path / "run")
    assert steps_done(tmp_path / "run") == (3 if times == 1 else 0)


def test_pretrain__that_is_stopped_in_its_last_step_validates(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_config, train=replace(tiny_config.train, steps=3))
    signalled_in_step(monkeypatch, at=2, times=1)
    assert pipeline.pretrain(config, tmp_path / "run").status == "finished"
    assert (tmp_path / "run" / "checkpoints" / "best").readlink() == Path("best-0000003")


def test_pretrain__that_stops_where_a_validation_is_due_validates(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of an interrupted and resumed run are those of one that was not interrupted."""
    signalled_in_step(monkeypatch, at=3, times=1)
    assert pipeline.pretrain(tiny_config, tmp_path / "run").status == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "best").readlink() == Path("best-0000004")
