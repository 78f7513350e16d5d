"""How often training draws from each dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from maesil.errors import ConfigError

Weighting = Literal["by-scan", "by-dataset", "temperature"]
"""As often as a dataset has superpatches; all equally often; between the two."""


def power_of(weighting: Weighting, temperature: float) -> float:
    """The power of its superpatches that a dataset is drawn by.

    Args:
        weighting: How datasets are weighed.
        temperature: The power, with "temperature": 1 is "by-scan", 0 is "by-dataset".

    Raises:
        ConfigError: The temperature is not in [0, 1].
    """
    if not 0.0 <= temperature <= 1.0:
        raise ConfigError(f"temperature is {temperature}", fix="a number from 0 (by-dataset) to 1 (by-scan)")
    return {"by-scan": 1.0, "by-dataset": 0.0, "temperature": temperature}[weighting]


def draw_shares(superpatches: Mapping[str, int], power: float) -> dict[str, float]:
    """The share of all draws that each dataset has; nothing is drawn from one without superpatches."""
    weights = {name: count**power if count else 0.0 for name, count in superpatches.items()}
    total = sum(weights.values())
    return {name: weight / total if total else 0.0 for name, weight in weights.items()}
