"""HU to the unit interval and back, for numpy arrays and torch tensors, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from maesil.errors import ConfigError

A = TypeVar("A")


@dataclass(frozen=True)
class Window:
    """The range of HU that a model sees as [0, 1], so that the data range of every metric is 1.

    The paper does not give its range; -1000 (air) to 1000 (cortical bone) is maesil's choice, printed with every score.

    Args:
        low_hu: HU that becomes 0, as does everything below.
        high_hu: HU that becomes 1, as does everything above.

    Raises:
        ConfigError: The bounds are not finite or not in ascending order.
    """

    low_hu: float = -1000.0
    high_hu: float = 1000.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low_hu) and np.isfinite(self.high_hu) and self.low_hu < self.high_hu):
            raise ConfigError(
                f"invalid window from {self.low_hu} to {self.high_hu} HU", fix="make low_hu smaller than high_hu"
            )

    @property
    def width_hu(self) -> float:
        """Width of the window in HU."""
        return self.high_hu - self.low_hu

    def normalize(self, hu: A) -> A:
        """HU to [0, 1], clipped; integers become float32, floating-point types are kept."""
        values: Any = hu
        if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
            values = values.astype(np.float32)  # Python scalars would make int16 float64
        unit: A = ((values - self.low_hu) / self.width_hu).clip(0.0, 1.0)
        return unit

    def denormalize(self, unit: A) -> A:
        """[0, 1] to HU: after `normalize`, the HU clipped to the window."""
        values: Any = unit
        hu: A = values * self.width_hu + self.low_hu
        return hu
