"""Progress while whole scans are segmented."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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


@pytest.mark.parametrize(("classes", "dtype"), [(255, np.uint8), (256, np.uint16), (300, np.uint16)])
def test_segment__numbers_of_many_classes_do_not_wrap(classes: int, dtype: type) -> None:
    model = Segmenter(small_backbone(TINY_MODEL), classes, SegmentationConfig(mode="linear")).eval()
    with torch.no_grad():
        list(model.parameters())[-1].zero_()[classes] = (
            1e3  # the last bias of the decoder: everything is the last class
        )
    found = segment(model, np.zeros((32, 32, 32), dtype=np.int16))
    assert found.dtype == dtype
    assert (found == classes).all()


def test_windows__of_two_scans_are_counted_together(model: Segmenter) -> None:
    shown: list[tuple[int, int, str]] = []
    shapes = [(32, 32, 48), (32, 32, 32)]
    counted = Windows(model, shapes, lambda *row: shown.append(row))
    for name, shape in zip("ab", shapes, strict=True):
        segment(model, np.zeros(shape, dtype=np.int16), counted.of(name))
    assert shown[0] == (0, 3, "2 scans in 3 windows of 32 x 32 x 32 voxels")
    assert shown[1:] == [(1, 3, "a"), (2, 3, "a"), (3, 3, "b")]
