"""Progress while whole scans are segmented."""

from __future__ import annotations

import numpy as np
import pytest

from backbones import small_backbone
from conftest import TINY_MODEL
from maesil.shapes import Shape3
from maesil.tasks.segmentation.config import SegmentationConfig
from maesil.tasks.segmentation.network import Segmenter
from maesil.tasks.segmentation.score import Windows, segment, windows_of


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return Segmenter(small_backbone(TINY_MODEL), 2, SegmentationConfig(mode="linear")).eval()


@pytest.mark.parametrize("shape", [(32, 32, 32), (40, 33, 20), (48, 49, 65)])
def test_windows_of__is_what_segment_needs(model: Segmenter, shape: Shape3) -> None:
    counted: list[int] = []
    segment(model, np.zeros(shape, dtype=np.int16), counted.append)
    assert sum(counted) == windows_of(shape, (32, 32, 32))


def test_windows__of_two_scans_are_counted_together(model: Segmenter) -> None:
    shown: list[tuple[int, int, str]] = []
    shapes = [(32, 32, 48), (32, 32, 32)]
    counted = Windows(model, shapes, lambda *row: shown.append(row))
    for name, shape in zip("ab", shapes, strict=True):
        segment(model, np.zeros(shape, dtype=np.int16), counted.of(name))
    assert shown[0] == (0, 3, "2 scans in 3 windows of 32 x 32 x 32 voxels")
    assert shown[1:] == [(1, 3, "a"), (2, 3, "a"), (3, 3, "b")]
