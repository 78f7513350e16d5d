"""The masked autoencoder against references and its own promises."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from maesil.errors import ConfigError
from maesil.masking import DualMasking, UniformMasking
from maesil.models.mae import MAEConfig, MaskedAutoencoder, gather_tokens, split_tokens
from maesil.models.masked_loss import ssim_loss

SMALL = MAEConfig(
    superpatch=(16, 32, 24),
    patch=(4, 8, 8),
    encoder_width=48,
    encoder_depth=2,
    encoder_heads=4,
    decoder_width=24,
    decoder_depth=1,
    decoder_heads=2,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(config: MAEConfig = SMALL, *, random_head: bool = True) -> MaskedAutoencoder:
    torch.manual_seed(0)
    model = MaskedAutoencoder(config, DualMasking())
    if random_head:  # a zero head would hide what reaches the output
        nn.init.normal_(model.decoder.head.weight, std=0.1)
    return model


def superpatches(count: int = 2, config: MAEConfig = SMALL) -> torch.Tensor:
    return torch.rand(count, 1, *config.superpatch, generator=generator(3))


def test_embed__equals_a_conv3d_with_stride_of_its_kernel() -> None:
    model, x = make(), superpatches()
    conv = nn.Conv3d(1, SMALL.encoder_width, kernel_size=SMALL.patch, stride=SMALL.patch)
    conv.weight.data = model.encoder.embed.weight.data.view_as(conv.weight)
    conv.bias = model.encoder.embed.bias
    expected = conv(x).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.encoder.embed(SMALL.grid.patchify(x)), expected, rtol=1e-5, atol=1e-6)


def test_encoder__gathering_first_equals_embedding_all_and_dropping() -> None:
    model = make()
    patches = SMALL.grid.patchify(superpatches())
    visible, _ = split_tokens(model.draw_mask(2, generator()), model.masking.visible_count(SMALL.grid))
    everything = model.encoder.embed(patches) + model.encoder.positions()
    tokens = gather_tokens(everything, visible)
    for block in model.encoder.blocks:
        tokens = block(tokens)
    torch.testing.assert_close(model.encoder(patches, visible), model.encoder.norm(tokens))


def test_encoder__all_tokens_come_out_in_token_order() -> None:
    model = make()
    patches = SMALL.grid.patchify(superpatches())
    index = torch.arange(SMALL.grid.tokens).expand(2, -1)
    torch.testing.assert_close(model.encoder(patches), model.encoder(patches, index))


def test_reconstruct__does_not_see_masked_voxels() -> None:
    model, x = make(), superpatches()
    mask = model.draw_mask(2, generator())
    hidden = model.voxel_mask(mask)
    spoiled = torch.where(hidden, torch.rand_like(x), x)
    torch.testing.assert_close(model.reconstruct(x, mask).volume, model.reconstruct(spoiled, mask).volume)
    changed = torch.where(hidden, x, torch.rand_like(x))
    assert not torch.allclose(model.reconstruct(x, mask).volume, model.reconstruct(changed, mask).volume)


def test_reconstruct__puts_each_latent_token_at_its_place() -> None:
    """Without blocks, a visible patch is made of its own voxels and a masked one of the mask token, at their place."""
    model, x = make(), superpatches(1)
    model.encoder.blocks, model.decoder.blocks = nn.ModuleList(), nn.ModuleList()
    mask = model.draw_mask(1, generator())
    got = SMALL.grid.patchify(model.reconstruct(x, mask).volume)
    patches = SMALL.grid.patchify((x - SMALL.input_mean) / SMALL.input_std)
    for place in range(SMALL.grid.tokens):
        latent = model.encoder.norm(model.encoder.embed(patches[0, place]) + model.encoder.positions()[place])
        content = model.decoder.mask_token if mask[0, place] else model.decoder.embed(latent)
        decoded = model.decoder.norm(content + model.decoder.positions()[place])
        expected = model.decoder.head(decoded) * SMALL.input_std + SMALL.input_mean
        torch.testing.assert_close(got[0, place], expected.detach(), rtol=1e-4, atol=1e-5)


def test_loss__is_the_mean_squared_error_over_masked_voxels() -> None:
    model, x = make(), superpatches()
    mask = model.draw_mask(2, generator())
    rebuilt = model.reconstruct(x, mask)
    error = ((rebuilt.volume - x) / SMALL.input_std).square()[rebuilt.mask].mean()
    torch.testing.assert_close(model.loss(x, mask), error, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", ["patch", "overlap"])
def test_ssim_weight__adds_1_minus_ssim_of_masked_voxels(head: Literal["patch", "overlap"]) -> None:
    config = replace(SMALL, patch=(8, 8, 8), head=head)
    plain, model = make(config), make(replace(config, ssim_weight=2.0))
    x, mask = superpatches(), plain.draw_mask(2, generator())
    hidden = plain.voxel_mask(mask)
    shown = torch.where(hidden, plain.rebuild(x, mask), x)
    expected = plain.loss(x, mask) + 2.0 * ssim_loss(shown, x, hidden)
    torch.testing.assert_close(model.loss(x, mask), expected)
    assert not torch.isclose(model.loss(x, mask), plain.loss(x, mask), rtol=1e-2)


def test_ssim_weight__trains_encoder_and_decoder() -> None:
    plain, model = make(), make(replace(SMALL, ssim_weight=1.0))
    x, mask = superpatches(), plain.draw_mask(2, generator())
    for one in (plain, model):
        one.loss(x, mask).backward()
    for name in ("encoder.embed.weight", "decoder.head.weight"):
        ours, theirs = (one.get_parameter(name).grad for one in (model, plain))
        assert not torch.allclose(ours, theirs, rtol=1e-2)


def test_loss__visible_patches_count_by_their_weight() -> None:
    x = superpatches()
    plain, weighted = make(), make(replace(SMALL, visible_weight=0.25))
    mask = plain.draw_mask(2, torch.Generator().manual_seed(0))
    rebuilt = plain.reconstruct(x, mask)
    error = ((rebuilt.volume - x) / SMALL.input_std).square()
    visible = error[~rebuilt.mask.expand_as(error)].mean()
    torch.testing.assert_close(weighted.loss(x, mask), plain.loss(x, mask) + 0.25 * visible)


def test_loss__starts_at_the_variance_around_the_input_mean() -> None:
    model, x = make(random_head=False), superpatches()
    mask = model.draw_mask(2, generator())
    hidden = x[model.voxel_mask(mask)]
    expected = ((hidden - SMALL.input_mean) / SMALL.input_std).square().mean()
    torch.testing.assert_close(model.loss(x, mask), expected)


def with_contrast(x: torch.Tensor, mask: torch.Tensor, factor: float, shift: float) -> torch.Tensor:
    """The superpatch with every masked patch scaled and shifted."""
    patches = SMALL.grid.patchify(x)
    return SMALL.grid.unpatchify(torch.where(mask[..., None], factor * patches + shift, patches))


def test_normalised_targets__loss_is_blind_to_level_and_contrast_of_masked_patches() -> None:
    normalized, plain, x = make(replace(SMALL, normalize_targets=True)), make(), superpatches()
    mask = normalized.draw_mask(2, generator())
    changed = with_contrast(x, mask, 0.4, 0.3)
    torch.testing.assert_close(normalized.loss(changed, mask), normalized.loss(x, mask), rtol=1e-3, atol=0)
    assert (plain.loss(changed, mask) - plain.loss(x, mask)).abs() > 0.05


def test_normalised_targets__zero_prediction_loses_the_variance_of_standardised_patches() -> None:
    """That is 1 for a patch with contrast, and 0 for one without: of four masked patches, one is air."""
    model, x = make(replace(SMALL, normalize_targets=True), random_head=False), superpatches()
    mask = model.draw_mask(2, generator())
    patches = SMALL.grid.patchify(x)
    flat = mask & (mask.cumsum(dim=1) % 4 == 0)
    patches[flat] = 0.0
    expected = 1.0 - flat.sum() / mask.sum()
    torch.testing.assert_close(model.loss(SMALL.grid.unpatchify(patches), mask), expected, rtol=1e-3, atol=0)


def test_normalised_targets__prediction_comes_back_at_each_patchs_level_and_contrast() -> None:
    """A head of nothing but a bias predicts the same shape everywhere."""
    model, x = make(replace(SMALL, normalize_targets=True), random_head=False), superpatches()
    shape = torch.linspace(-1.0, 1.0, SMALL.grid.voxels_per_patch)
    model.decoder.head.bias.data.copy_(shape)
    mask = model.draw_mask(2, generator())
    for factor, shift in ((1.0, 0.0), (0.4, 0.3)):
        shown = with_contrast(x, mask, factor, shift)
        rebuilt = SMALL.grid.patchify(model.reconstruct(shown, mask).volume)
        for patch, truth in zip(rebuilt[mask].numpy(), SMALL.grid.patchify(shown)[mask].numpy(), strict=True):
            np.testing.assert_allclose(patch, truth.mean() + truth.std() * shape.numpy(), rtol=1e-4, atol=1e-4)


def vars_of(config: MAEConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss__works_under_autocast_on_the_cpu(dtype: torch.dtype) -> None:
    model, x = make(), superpatches()
    mask = model.draw_mask(2, generator())
    exact = model.loss(x, mask)
    with torch.autocast("cpu", dtype):
        rough = model.loss(x, mask)
    rough.backward()
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.02)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss__works_in_low_precision_weights(dtype: torch.dtype) -> None:
    model, x = make(), superpatches()
    mask = model.draw_mask(2, generator())
    exact = model.loss(x, mask).detach()
    low = model.to(dtype)
    loss = low.loss(x, mask)
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=0.03, atol=0.03)
    assert low.reconstruct(x, mask).volume.dtype == torch.float32


def test_loss__refuses_a_mask_with_another_visible_count() -> None:
    model, x = make(), superpatches()
    other = UniformMasking(0.5).draw(2, SMALL.grid, generator())
    with pytest.raises(RuntimeError, match="wrong number of visible tokens"):
        model.loss(x, other)


def test_loss__every_parameter_gets_a_gradient() -> None:
    model, x = make(MAEConfig(**{**vars_of(SMALL), "positions": "learned"})), superpatches()
    model.loss(x, model.draw_mask(2, generator())).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == []


def test_config__refuses_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        MAEConfig(superpatch=(60, 64, 64))
    with pytest.raises(ConfigError, match="heads"):
        make(MAEConfig(**{**vars_of(SMALL), "encoder_heads": 5}))
    for unfit in ({"rebuilt_share": 0.5}, {"normalize_targets": True}, {"visible_weight": 0.1}):
        with pytest.raises(ConfigError, match="ssim_weight needs every masked voxel"):
            replace(SMALL, ssim_weight=1.0, **unfit)
    with pytest.raises(ConfigError, match="SSIM has windows of 11 voxels"):
        MAEConfig(superpatch=(8, 8, 8), patch=(4, 4, 4), ssim_weight=1.0)


COMPILED = """
import torch
from maesil.masking import DualMasking
from maesil.models.mae import MAEConfig, MaskedAutoencoder
config = MAEConfig(superpatch=(16, 32, 24), patch=(4, 8, 8), encoder_width=48, encoder_depth=1, encoder_heads=4,
                   decoder_width=24, decoder_depth=1, decoder_heads=2)
torch.manual_seed(0)
torch.set_num_threads(1)
model = MaskedAutoencoder(config, DualMasking())
torch.nn.init.normal_(model.decoder.head.weight, std=0.1)
x, mask = torch.rand(2, 1, *config.superpatch), model.draw_mask(2, torch.Generator().manual_seed(0))
losses, gradients = [], []
for loss_of in (model.loss, torch.compile(model.loss, dynamic=False, fullgraph=True)):
    model.zero_grad()
    loss = loss_of(x, mask)
    loss.backward()
    losses.append(loss.detach())
    gradients.append(model.encoder.embed.weight.grad.clone())
torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
"""


@pytest.mark.slow
def test_compile__gives_the_same_loss_and_gradients() -> None:
    """In a process of its own: the tests' type checks are in the way of tracing, and users do not have them."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=280)
