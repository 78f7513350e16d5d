"""Budgets as words, and as steps."""

from __future__ import annotations

import pytest

from maesil.comparison.budget import Budget, parse_budget
from maesil.errors import ConfigError
from maesil.training.config import TrainConfig

TRAIN = TrainConfig(batch=4, accumulate=2)


def test_parse_budget__reads_every_unit() -> None:
    assert parse_budget("steps=20") == Budget("steps", 20.0)
    assert parse_budget("flops=1e17") == Budget("flops", 1e17)
    assert "600 seconds" in parse_budget("seconds=600").describe()


@pytest.mark.parametrize(
    "text", ["20", "hours=2", "steps=", "steps=0", "steps=-1", "seconds=inf", "flops=nan", "steps=0.2"]
)
def test_parse_budget__refuses(text: str) -> None:
    with pytest.raises(ConfigError, match=r"budget|number"):
        parse_budget(text)


def test_steps__of_each_unit() -> None:
    assert Budget("steps", 20.0).steps(TRAIN, 1) == 20
    assert Budget("seconds", 60.0).steps(TRAIN, 1, seconds_per_step=0.5) == 120
    assert Budget("flops", 1e9).steps(TRAIN, 1, flops=1e6) == 125
    assert Budget("flops", 1.0).steps(TRAIN, 1, flops=1e6) == 1


def test_steps__on_several_devices_cost_as_many_superpatches_each() -> None:
    assert Budget("flops", 8e9).steps(TRAIN, 8, flops=1e6) == 125
    assert Budget("seconds", 60.0).steps(TRAIN, 8, seconds_per_step=0.5) == 120
