"""Settings that tests of several processes share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maesil.config import RunConfig


@pytest.fixture
def config(tiny_config: RunConfig) -> RunConfig:
    """Eight steps of four superpatches."""
    train = replace(tiny_config.train, steps=8, batch=2, peak_lr=1e-3)
    monitor = replace(tiny_config.monitor, validate_every=0, checkpoint_every=8, log_every=1)
    return replace(tiny_config, train=train, monitor=monitor)
