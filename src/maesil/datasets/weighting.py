"""How often training draws from each dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from maesil.errors import ConfigError

Weighting = Literal["by-scan", "by-dataset", "temperature"]
"""Draws in proportion to a dataset's superpatches; all datasets equally often; between the two."""


def power_of(weighting: Weighting, temperature: float) -> float:
    """The exponent of a dataset's number of superpatches in its weight.

    Args:
        weighting: Weighting of the datasets.
        temperature: Exponent for "temperature": 1 is "by-scan", 0 is "by-dataset".

    Raises:
        ConfigError: The temperature is not in [0, 1].
    """
    if not 0.0 <= temperature <= 1.0:
        raise ConfigError(f"temperature is {temperature}", fix="choose a number from 0 (by-dataset) to 1 (by-scan)")
    return {"by-scan": 1.0, "by-dataset": 0.0, "temperature": temperature}[weighting]


def draw_shares(superpatches: Mapping[str, int], power: float) -> dict[str, float]:
    """The share of all draws from each dataset; nothing is drawn from one without superpatches."""
    weights = {name: count**power if count else 0.0 for name, count in superpatches.items()}
    total = sum(weights.values())
    return {name: weight / total if total else 0.0 for name, weight in weights.items()}
