from __future__ import annotations

import pytest
import torch

from conftest import TINY_MODEL
from maesil.ct.window import Window
from maesil.evaluation.constant_volumes import constant_deviation, constant_note
from maesil.masking import DualMasking
from maesil.models import UNTRAINED, make_model
from maesil.models.mae import MaskedAutoencoder


@pytest.mark.parametrize("name", UNTRAINED)
def test_constant_deviation__of_what_learns_nothing_is_zero(name: str) -> None:
    model = UNTRAINED[name](TINY_MODEL.grid, DualMasking())
    assert constant_deviation(model, Window()) == pytest.approx({"air": 0, "water": 0, "bone": 0}, abs=0.5)
    assert constant_note(name, model, Window()) == ()


def test_constant_deviation__shows_a_stencil_in_hu() -> None:
    model = make_model(TINY_MODEL, DualMasking()).eval()
    assert isinstance(model, MaskedAutoencoder)
    assert constant_deviation(model, Window())["water"] == 0.0  # a head of zeros rebuilds the input's mean everywhere
    with torch.no_grad():
        model.decoder.head.bias[::2] = 0.2  # every second voxel of each patch, in units of `input_std`
    assert "in HU, of: air 50.0, water 50.0, bone 50.0" in constant_note("ours", model, Window())[0]
    step_hu = 0.2 * TINY_MODEL.input_std * 2000
    assert constant_deviation(model, Window())["bone"] == pytest.approx(step_hu / 2, rel=1e-3)
