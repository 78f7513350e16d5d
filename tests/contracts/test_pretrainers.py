"""Every model trained, or scored, by reconstruction keeps the promises of `maesil.models.Pretrainer`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models import UNTRAINED, MAEConfig, Pretrainer, make_model

GRID = PatchGrid((32, 32, 32), (8, 8, 8))
TINY = MAEConfig(
    superpatch=GRID.superpatch, encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2,
)  # fmt: skip


def trained() -> Pretrainer:
    torch.manual_seed(0)
    model = make_model(TINY, DualMasking())
    for name, parameter in model.named_parameters():
        if name.endswith("head.weight"):
            nn.init.normal_(parameter, std=0.1)
    return model


MODELS = {
    "maesil": trained,
    **{name: (lambda kind=kind: kind(GRID, DualMasking())) for name, kind in UNTRAINED.items()},
}
every_model = pytest.mark.parametrize("model", [make() for make in MODELS.values()], ids=list(MODELS))


def inputs(model: Pretrainer, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, *GRID.superpatch, generator=generator), model.draw_mask(count, generator)


@every_model
def test_reconstruct__is_finite_float32_of_the_inputs_shape(model: Pretrainer) -> None:
    x, mask = inputs(model)
    rebuilt = model.reconstruct(x, mask)
    assert rebuilt.volume.shape == x.shape
    assert rebuilt.volume.dtype == torch.float32
    assert rebuilt.volume.isfinite().all()
    assert rebuilt.mask.float().mean().item() == pytest.approx(model.masking.ratio)


@every_model
def test_reconstruct__sees_no_masked_voxel(model: Pretrainer) -> None:
    x, mask = inputs(model)
    spoiled = torch.where(model.voxel_mask(mask), 1.0 - x, x)
    torch.testing.assert_close(model.reconstruct(spoiled, mask).volume, model.reconstruct(x, mask).volume)


@every_model
def test_reconstruct__treats_rows_apart(model: Pretrainer) -> None:
    x, mask = inputs(model, 3)
    together = model.reconstruct(x, mask).volume
    alone = torch.cat([model.reconstruct(x[i : i + 1], mask[i : i + 1]).volume for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@every_model
def test_loss__is_a_finite_scalar_with_a_gradient_for_every_parameter(model: Pretrainer) -> None:
    x, mask = inputs(model)
    loss = model.loss(x, mask)
    assert loss.shape == ()
    assert loss.isfinite()
    parameters = dict(model.named_parameters())
    assert bool(parameters) == model.trainable
    if parameters:
        loss.backward()
        assert [name for name, p in parameters.items() if p.grad is None or not p.grad.isfinite().all()] == []


@every_model
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model__works_under_autocast(model: Pretrainer, dtype: torch.dtype) -> None:
    x, mask = inputs(model)
    exact = model.reconstruct(x, mask).volume
    with torch.autocast("cpu", dtype):
        rough = model.reconstruct(x, mask).volume
        assert model.loss(x, mask).isfinite()
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)


@every_model
def test_model__has_a_name_an_encoder_and_a_grid(model: Pretrainer) -> None:
    assert isinstance(model.encoder, nn.Module)
    assert model.grid == GRID
    mask = model.draw_mask(3, torch.Generator().manual_seed(0))
    assert torch.equal(mask, model.draw_mask(3, torch.Generator().manual_seed(0)))
