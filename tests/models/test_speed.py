"""What makes a step faster leaves its loss curve alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.masking import DualMasking
from maesil.models import attention, transformer
from maesil.models.mae import MAEConfig, MaskedAutoencoder, gather_tokens, split_tokens
from maesil.models.transformer import recompute_blocks
from maesil.training.config import TrainConfig
from maesil.training.optimizer import make_optimizer

SMALL = MAEConfig(
    superpatch=(32, 32, 32), encoder_width=48, encoder_depth=2, encoder_heads=4,
    decoder_width=24, decoder_depth=2, decoder_heads=2, position_wavelengths=(4.0, 32.0), start="local",
)  # fmt: skip
STEPS = 25
Loss = Callable[[MaskedAutoencoder, Tensor, Tensor, torch.Generator], Tensor]


def ours(model: MaskedAutoencoder, superpatch: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    return model.loss(superpatch, mask, [generator] * len(superpatch))


def plain(model: MaskedAutoencoder, superpatch: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """As the paper has it: embed everything, decode everything, look at the masked tokens."""
    patches = model.grid.patchify((superpatch - model.config.input_mean) / model.config.input_std)
    visible, masked = split_tokens(mask, int((~mask[0]).sum()))
    tokens = gather_tokens(model.encoder.embed(patches) + model.encoder.positions(), visible)
    for block in model.encoder.blocks:
        tokens = block(tokens)
    predicted = model.decoder.predict(model.decoder(model.encoder.norm(tokens), visible))
    return (gather_tokens(predicted, masked) - gather_tokens(patches, masked)).square().mean()


def curve(
    loss: Loss = ours,
    config: MAEConfig = SMALL,
    *,
    bf16: bool = False,
    change: Callable[[nn.Module], None] = lambda model: None,
) -> Tensor:
    """Losses of a short training on blobs."""
    torch.manual_seed(0)
    model = MaskedAutoencoder(config, DualMasking())
    change(model)
    optimizer = make_optimizer(model, TrainConfig(peak_lr=2e-3), 1)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(STEPS):
        superpatch = F.interpolate(torch.rand(2, 1, 5, 5, 5, generator=generator), size=config.superpatch)
        mask = model.draw_mask(2, generator)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(model, superpatch, mask, generator)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(value.detach())
    return torch.stack(losses)


def test_loss__its_curve_is_that_of_the_plain_method() -> None:
    expected = curve(plain)
    assert expected[-1] < 0.8 * expected[0]  # it learns, so that a difference would show
    torch.testing.assert_close(curve(), expected, rtol=1e-4, atol=1e-6)


def test_recompute__its_curve_is_the_same() -> None:
    assert torch.equal(curve(change=recompute_blocks), curve())
    cross = replace(SMALL, decoder="cross", rebuilt_share=0.5)
    assert torch.equal(curve(config=cross, change=recompute_blocks), curve(config=cross))


def test_blocked_attention__its_curve_is_that_of_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(transformer, "attend", F.scaled_dot_product_attention)
        expected = curve(bf16=True)
    monkeypatch.setattr(attention, "BLOCK_ROWS", 24)
    exact = curve()
    used: list[int] = []
    forward = attention.BlockedAttention.forward
    monkeypatch.setattr(attention.BlockedAttention, "forward", lambda *inputs: used.append(1) or forward(*inputs))
    blocked = curve(bf16=True)
    assert len(used) == STEPS * (SMALL.encoder_depth + SMALL.decoder_depth)
    # No further from float32 than the fused kernel, up to half as much again: both round to bf16.
    assert (blocked - exact).abs().max() < 1.5 * (expected - exact).abs().max() + 1e-4
    torch.testing.assert_close(blocked, expected, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize(("asking", "asked"), [(70, 70), (30, 70), (1, 5)])
def test_blocked_attention__gradients_are_those_of_the_formula(
    monkeypatch: pytest.MonkeyPatch, asking: int, asked: int
) -> None:
    monkeypatch.setattr(attention, "BLOCK_ROWS", 16)
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 3, asking, 8), (2, 3, asked, 8), (2, 3, asked, 8))
    inputs = [torch.randn(size, generator=generator).bfloat16() for size in sizes]
    gradient = torch.randn(sizes[0], generator=generator).bfloat16()
    exact = [tensor.double().requires_grad_() for tensor in inputs]
    rough = [tensor.clone().requires_grad_() for tensor in inputs]
    expected = F.scaled_dot_product_attention(*exact)
    mixed = attention.attend(*rough)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.double(), expected, rtol=0.02, atol=0.02)
    expected.backward(gradient.double())
    mixed.backward(gradient)
    for one, other in zip(rough, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=0.05, atol=0.05)


def test_attend__leaves_large_scores_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BlockedAttention", None)
    query = torch.full((1, 1, 3, 8), 40.0).bfloat16()
    for sign in (1, -1):
        mixed = attention.attend(query, sign * query, torch.eye(3, 8).bfloat16()[None, None])
        torch.testing.assert_close(mixed.float(), torch.eye(3, 8).mean(0).expand(1, 1, 3, 8), rtol=0.01, atol=0)
    with pytest.raises(AttributeError):
        attention.attend(query / 40, query / 40, query)


def test_blocked_attention__is_right_up_to_its_largest_score() -> None:
    generator = torch.Generator().manual_seed(0)
    query = 8.0 * torch.nn.functional.normalize(torch.randn(1, 2, 40, 64, generator=generator), dim=-1)
    query, value = query.bfloat16() * 2, torch.randn(1, 2, 40, 64, generator=generator).bfloat16()
    assert 40 < attention._largest_score(query, query) < attention.LARGEST_SCORE
    blocked = attention.BlockedAttention.apply(query, query, value)  # type: ignore[no-untyped-call]
    expected = F.scaled_dot_product_attention(query.double(), query.double(), value.double())
    torch.testing.assert_close(blocked.double(), expected, rtol=0.05, atol=0.05)


def test_blocked_attention__keeps_no_scores() -> None:
    tokens, width = 2048, 8
    query, key, value = (torch.randn(1, 1, tokens, width).bfloat16().requires_grad_() for _ in range(3))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        attention.attend(query, key, value)
    assert max(kept) == tokens * width


def test_cross_decoder__every_token_is_rebuilt_by_itself() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(replace(SMALL, decoder="cross"), DualMasking())
    nn.init.normal_(model.decoder.head.weight, std=0.1)
    latent = torch.randn(2, 16, SMALL.encoder_width)
    visible = torch.stack([torch.randperm(64)[:16] for _ in range(2)])
    wanted = torch.tensor([[3, 60, 7], [1, 2, 0]])
    everything = model.decoder(latent, visible)
    torch.testing.assert_close(model.decoder(latent, visible, wanted), gather_tokens(everything, wanted))


def test_rebuilt_share__draws_that_many_of_the_masked_tokens_anew_in_every_step() -> None:
    model = MaskedAutoencoder(replace(SMALL, rebuilt_share=0.25), DualMasking())
    generator = torch.Generator().manual_seed(0)
    mask = model.draw_mask(2, generator)
    drawn: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: drawn.append(inputs[2]))
    for _ in range(2):
        model.loss(torch.rand(2, 1, 32, 32, 32), mask, [generator] * 2)
    assert all(tokens.shape == (2, 12) and bool(mask.gather(1, tokens).all()) for tokens in drawn)
    assert all(len(set(row.tolist())) == 12 for row in drawn[0])
    assert not torch.equal(*drawn)


def test_rebuilt_share__is_no_share_of_visible_tokens() -> None:
    with pytest.raises(ConfigError, match="rebuilt_share"):
        replace(SMALL, rebuilt_share=0.5, visible_weight=0.1)
    with pytest.raises(ConfigError, match="rebuilt_share"):
        replace(SMALL, rebuilt_share=1.5)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, decoder="cross")], ids=["self", "cross"])
def test_autocast__tokens_between_blocks_stay_in_float32(config: MAEConfig) -> None:
    """The sum over all blocks is not rounded to bf16 at every one; gradients are within 1 % of float32's."""
    deep = replace(config, encoder_depth=6, decoder_depth=4)
    torch.manual_seed(0)
    model = MaskedAutoencoder(deep, DualMasking())
    nn.init.normal_(model.decoder.head.weight, std=0.1)
    superpatch = F.interpolate(torch.rand(2, 1, 5, 5, 5), size=deep.superpatch)
    mask = model.draw_mask(2, torch.Generator().manual_seed(0))
    between: set[torch.dtype] = set()
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block.register_forward_pre_hook(lambda module, inputs: between.add(inputs[0].dtype))
    exact, rough = gradient(model, superpatch, mask), gradient(model, superpatch, mask, bf16=True)
    assert between == {torch.float32}
    assert (rough - exact).norm() < 0.01 * exact.norm()


def gradient(model: MaskedAutoencoder, superpatch: Tensor, mask: Tensor, *, bf16: bool = False) -> Tensor:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        value = model.loss(superpatch, mask)
    value.backward()  # type: ignore[no-untyped-call]
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
