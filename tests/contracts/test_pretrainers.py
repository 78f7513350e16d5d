"""Every model keeps the promises of `Reconstructor`, and every one that is trained those of `Pretrainer`."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models import (
    CEILINGS,
    UNTRAINED,
    MAEConfig,
    ModelConfig,
    Pretrainer,
    Reconstructor,
    SliceMAEConfig,
    make_model,
)
from maesil.models import MODELS as NETWORKS
from maesil.models.fusion import FusionConfig
from maesil.presets.baselines import SIZES
from maesil.sampling.augment import draw_generators
from maesil.training.logs import COLUMNS

GRID = PatchGrid((32, 32, 32), (8, 8, 8))
TINY = MAEConfig(
    superpatch=GRID.superpatch, encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2,
)  # fmt: skip


SLICES = SliceMAEConfig(
    superpatch=GRID.superpatch, encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2,
)  # fmt: skip
SMALL: dict[str, ModelConfig] = {
    "maesil": TINY,
    "maesil, fusion": replace(TINY, fusion=FusionConfig(width=4)),
    "maesil, fusion on voxels": replace(TINY, fusion=FusionConfig(width=4, network="voxels")),
    "maesil, cross decoder": replace(TINY, decoder="cross", rebuilt_share=0.25),
    "maesil, overlapping head": replace(TINY, head="overlap", visible_head=True),
    "maesil, axial decoder": replace(TINY, decoder="axial", decoder_depth=2),
    "maesil, windows decoder": replace(TINY, decoder="windows", decoder_depth=2),
    "maesil, EVA blocks": replace(TINY, encoder_block="eva", mlp_ratio=8 / 3),
    "slice_mae": SLICES,
    "slice_mae, shared masks": replace(SLICES, patch=(1, 8, 8), masks="shared"),
    **{
        name: NETWORKS[name][0](superpatch=GRID.superpatch, channels=(8, 16), latent_channels=4, **more)
        for name, more in (("ae", {}), ("vae", {}), ("vqvae", {"codes": 16}))
    },
    "unet": NETWORKS["unet"][0](superpatch=GRID.superpatch, channels=(4, 8)),
    "unet, residual units": NETWORKS["unet"][0](superpatch=GRID.superpatch, channels=(4, 8), residual_units=2),
    "ae, residual units": NETWORKS["ae"][0](
        superpatch=GRID.superpatch, channels=(8, 16), latent_channels=4, residual_units=2, corrupt=True
    ),
}


def trained(config: ModelConfig) -> Pretrainer:
    torch.manual_seed(0)
    model = make_model(config, DualMasking())
    for name, parameter in model.named_parameters():
        if name.endswith("head.weight"):
            nn.init.normal_(parameter, std=0.1)
    return model


TRAINED = {name: (lambda config=config: trained(config)) for name, config in SMALL.items()}
MODELS = {
    **TRAINED,
    **{name: (lambda kind=kind: kind(GRID, DualMasking())) for name, kind in (*UNTRAINED.items(), *CEILINGS.items())},
}
every_model = pytest.mark.parametrize("model", [make() for make in MODELS.values()], ids=list(MODELS))
every_pretrainer = pytest.mark.parametrize("model", [make() for make in TRAINED.values()], ids=list(TRAINED))
NOISY = {"maesil, cross decoder", "vae", "vqvae"}
"""Models whose loss draws: which masked tokens it rebuilds, the latent's noise, what dead codes become."""


def test_every_model_is_here_and_has_a_size_next_to_ours() -> None:
    assert {config.name for config in SMALL.values()} == set(NETWORKS)
    assert {"maesil", *SIZES} == set(NETWORKS)


def inputs(model: Reconstructor, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, *GRID.superpatch, generator=generator), model.draw_mask(count, generator)


@every_model
def test_reconstruct__is_finite_float32_of_the_inputs_shape(model: Reconstructor) -> None:
    x, mask = inputs(model)
    rebuilt = model.reconstruct(x, mask)
    assert rebuilt.volume.shape == x.shape
    assert rebuilt.volume.dtype == torch.float32
    assert rebuilt.volume.isfinite().all()
    assert rebuilt.mask.float().mean().item() == pytest.approx(model.masking.ratio)
    assert torch.equal(rebuilt.mask, model.voxel_mask(mask))


@every_model
def test_reconstruct__sees_visible_voxels_and_no_masked_one(model: Reconstructor) -> None:
    x, mask = inputs(model)
    hidden = model.voxel_mask(mask)
    rebuilt = model.reconstruct(x, mask).volume
    other_masked = model.reconstruct(torch.where(hidden, 1.0 - x, x), mask).volume
    other_visible = model.reconstruct(torch.where(hidden, x, 1.0 - x), mask).volume
    assert (rebuilt - other_visible).abs().max() > 1e-3
    if model.hints:
        assert (rebuilt - other_masked).abs().max() > 1e-3
    else:
        torch.testing.assert_close(other_masked, rebuilt)


@every_model
def test_reconstruct__passes_visible_voxels_on_only_where_it_says_so(model: Reconstructor) -> None:
    x, mask = inputs(model)
    rebuilt = model.reconstruct(x, mask)
    visible = ~rebuilt.mask.expand_as(x)
    assert torch.equal(rebuilt.volume[visible], x[visible]) != model.predicts_visible


def test_reconstruct__of_normalised_targets_is_told_what_it_says() -> None:
    model = make_model(replace(TINY, normalize_targets=True), DualMasking()).eval()
    x, mask = inputs(model)
    spoiled = torch.where(model.voxel_mask(mask), 1.0 - x, x)
    assert not torch.equal(model.reconstruct(spoiled, mask).volume, model.reconstruct(x, mask).volume)
    assert "mean and deviation" in model.hints
    assert make_model(TINY, DualMasking()).hints == ""


@every_model
def test_reconstruct__treats_rows_apart(model: Reconstructor) -> None:
    x, mask = inputs(model, 3)
    together = model.reconstruct(x, mask).volume
    alone = torch.cat([model.reconstruct(x[i : i + 1], mask[i : i + 1]).volume for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@every_pretrainer
def test_entries__see_what_they_say(model: Pretrainer) -> None:
    x, mask = inputs(model)
    spoiled = torch.where(model.voxel_mask(mask), 1.0 - x, x)
    entries = model.eval().entries("name")
    for entry in entries.values():
        same = torch.equal(entry.reconstruct(x, mask).volume, entry.reconstruct(spoiled, mask).volume)
        assert same != (entry.sees_all or bool(entry.hints))
    assert "name" in entries


@pytest.mark.parametrize("name", TRAINED)
def test_loss__draws_its_noise_from_its_generators(name: str) -> None:
    losses = []
    for seed in (3, 3, 4):
        model = TRAINED[name]().train()
        x, mask = inputs(model)
        generators = draw_generators(x.device, seed, range(len(x)))
        torch.manual_seed(len(losses))  # the global stream must not matter
        losses.append(float(model.loss(x, mask, generators, 0.5).detach()))
    assert losses[0] == losses[1]
    assert (losses[0] != losses[2]) == (name in NOISY)


@every_pretrainer
def test_measures__are_finite_scalars_that_the_log_knows(model: Pretrainer) -> None:
    x, mask = inputs(model)
    model.loss(x, mask)
    says = type(model).measures is not Pretrainer.measures
    assert bool(model.measures()) == says
    assert set(model.measures()) <= set(COLUMNS)
    assert all(value.shape == () and bool(value.isfinite()) for value in model.measures().values())


@every_pretrainer
def test_latent__is_what_the_encoder_hands_on(model: Pretrainer) -> None:
    x, mask = inputs(model, 1)
    if model.latent is None:
        assert not list(model.encoder.parameters())
        return
    handed: list[torch.Tensor] = []
    hook = model.encoder.register_forward_hook(lambda module, args, output: handed.append(output))
    with torch.no_grad():
        model.loss(x, mask)
    hook.remove()
    numbers = sum(tensor.numel() for tensor in handed)
    assert numbers == model.latent.elements * (2 if getattr(model, "posterior", None) else 1)  # mean and variance


@every_pretrainer
def test_loss__is_a_finite_scalar_with_a_gradient_for_every_parameter(model: Pretrainer) -> None:
    x, mask = inputs(model)
    loss = model.loss(x, mask)
    assert loss.shape == ()
    assert loss.isfinite()
    late = set() if model.last_stage is None else set(model.last_stage.part.parameters())
    parameters = {name: one for name, one in model.named_parameters() if one.requires_grad and one not in late}
    assert parameters
    model.zero_grad()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    assert [name for name, one in gradients.items() if one is None or not 0 < one.abs().sum() < math.inf] == []


@every_pretrainer
def test_last_loss__is_a_finite_scalar_with_gradients_for_its_part_alone(model: Pretrainer) -> None:
    x, mask = inputs(model)
    stage = model.last_stage
    if stage is None:
        with pytest.raises(NotImplementedError):
            model.last_loss(x, mask)
        return
    model.zero_grad()
    loss = model.last_loss(x, mask)
    assert loss.shape == ()
    loss.backward()
    learnt = {id(parameter) for parameter in model.parameters() if parameter.grad is not None}
    assert learnt == {id(parameter) for parameter in stage.part.parameters()}
    assert all(bool(parameter.grad.isfinite().all()) for parameter in stage.part.parameters())  # type: ignore[union-attr]


@every_model
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model__works_under_autocast(model: Reconstructor, dtype: torch.dtype) -> None:
    x, mask = inputs(model)
    exact = model.reconstruct(x, mask).volume
    with torch.autocast("cpu", dtype):
        rough = model.reconstruct(x, mask).volume
        if isinstance(model, Pretrainer):
            assert model.loss(x, mask).isfinite()
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)


@every_model
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model__works_in_half_precision_weights(model: Reconstructor, dtype: torch.dtype) -> None:
    x, mask = inputs(model)
    exact = model.reconstruct(x, mask).volume
    low = copy.deepcopy(model).eval().to(dtype)
    rebuilt = low.reconstruct(x, mask).volume
    assert rebuilt.dtype == torch.float32
    if isinstance(low, Pretrainer):
        assert low.loss(x, mask).isfinite()
    torch.testing.assert_close(rebuilt, exact, rtol=0.05, atol=0.05)


@every_model
def test_draw_mask__is_made_of_the_generators_state_alone(model: Reconstructor) -> None:
    assert model.grid.superpatch == GRID.superpatch
    first, again, other = (model.draw_mask(3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.shape == (3, model.grid.tokens)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1]), "rows are drawn apart"
