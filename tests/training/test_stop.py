"""Stopping a training by signals."""

from __future__ import annotations

import os
import signal

import pytest
import pytorch_lightning as pl

from maesil.training.callbacks import STOPPING, GracefulStop


def test_graceful_stop__answers_at_once_and_a_second_signal_stops_now() -> None:
    said: list[str] = []
    stop, trainer, module = GracefulStop(said.append), pl.Trainer(logger=False), pl.LightningModule()
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if the tests run in the background
    before = signal.getsignal(signal.SIGINT)
    stop.on_train_start(trainer, module)
    try:
        os.kill(os.getpid(), signal.SIGINT)  # in the middle of a step: no callback runs
        assert (stop.requested, said) == (True, [STOPPING])
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
    stop._previous = {signal.SIGINT: signal.getsignal(signal.SIGINT)}
    stop._request(signal.SIGINT, None)
    assert stop.requested
