from __future__ import annotations

import math

import pytest

from maesil.ct.readers.base import Facts
from maesil.datasets.facts import PREPARED_MM, superpatches_of
from maesil.datasets.weighting import draw_shares, power_of
from maesil.errors import ConfigError
from maesil.store.prepare import PrepareConfig


def test_draw_shares__between_by_scan_and_by_dataset() -> None:
    superpatches = {"small": 100, "large": 900, "none": 0}
    for power, small in ((1.0, 0.1), (0.5, 0.25), (0.0, 0.5)):
        assert draw_shares(superpatches, power) == pytest.approx({"small": small, "large": 1 - small, "none": 0.0})
    assert draw_shares({"none": 0}, 1.0) == {"none": 0.0}


def test_power_of__refuses_what_is_no_power_between_them() -> None:
    assert [power_of("by-scan", 0.5), power_of("temperature", 0.3), power_of("by-dataset", 0.5)] == [1.0, 0.3, 0.0]
    with pytest.raises(ConfigError, match="temperature is 1"):
        power_of("temperature", 1.5)


def test_facts__superpatches_are_counted_at_the_voxels_that_prepare_takes() -> None:
    assert PrepareConfig().spacing_mm == PREPARED_MM
    assert superpatches_of(Facts((512, 512, 133), 0.75, 3.0)) == 2 * 2 * 3
    assert superpatches_of(Facts((512, 512, 1), 0.75, math.nan)) == 4
