"""Transformer bricks against a published implementation with the same weights."""

from __future__ import annotations

import math

import pytest
import torch

from maesil.errors import ConfigError
from maesil.models.initial import cosine_embedding, initialize, initialize_attention
from maesil.models.transformer import (
    Attention,
    Block,
    attend,
    sincos_positions,
)


@pytest.mark.interop
def test_block__equals_monais_with_copied_weights() -> None:
    blocks = pytest.importorskip("monai.networks.blocks")
    theirs = blocks.TransformerBlock(hidden_size=48, mlp_dim=192, num_heads=4, qkv_bias=True).eval()
    torch.manual_seed(0)
    ours = Block(48, 4).eval()
    names = {
        "norm1": "norm1",
        "norm2": "norm2",
        "attn.qkv": "attention.qkv",
        "attn.out_proj": "attention.out",
        "mlp.linear1": "mlp.0",
        "mlp.linear2": "mlp.2",
    }
    weights = ours.state_dict()
    copied = {f"{t}.{kind}": weights[f"{o}.{kind}"] for t, o in names.items() for kind in ("weight", "bias")}
    assert not theirs.load_state_dict(copied, strict=False).unexpected_keys
    tokens = torch.randn(2, 30, 48)
    torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("crosses", [False, True])
def test_attention__equals_the_formula(fused: bool, crosses: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(12, 3, fused=fused)
    tokens, other = torch.randn(2, 7, 12), torch.randn(2, 5, 12)
    context = other if crosses else tokens
    weights, biases = (
        getattr(attention.qkv, kind).chunk(3)
        if fused
        else [getattr(layer, kind) for layer in (attention.query, attention.key, attention.value)]
        for kind in ("weight", "bias")
    )
    query, key, value = (
        (given @ weight.T + bias).view(2, -1, 3, 4)
        for given, weight, bias in zip((tokens, context, context), weights, biases, strict=True)
    )
    heads = []
    for head in range(3):
        scores = query[:, :, head] @ key[:, :, head].transpose(1, 2) / math.sqrt(4)
        heads.append(scores.softmax(-1) @ value[:, :, head])
    found = attention(tokens, other) if crosses else attention(tokens)
    torch.testing.assert_close(found, attention.out(torch.cat(heads, -1)))


def test_attention__checkpoints_keep_their_names() -> None:
    """Models that were published are loaded by these."""
    layers = {True: ["qkv", "out"], False: ["query", "key", "value", "out"]}
    for fused, names in layers.items():
        expected = [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]
        assert list(Attention(12, 3, fused=fused).state_dict()) == expected


@pytest.mark.parametrize("tokens", [30, 1100])
def test_attend__equals_the_fused_kernel_in_bf16(tokens: int) -> None:
    query, key, value = torch.randn(3, 1, 2, tokens, 16, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    mixed = attend(query.bfloat16(), key.bfloat16(), value.bfloat16())
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), expected, atol=0.02, rtol=0.02)


def test_sincos_positions__follow_the_token_order() -> None:
    shape, width = (3, 4, 5), 64
    table = sincos_positions(shape, width)
    assert table.shape == (60, width)
    pairs = (width // 2 - 2 * (width // 6), width // 6, width // 6)
    token = (2 * 4 + 1) * 5 + 3  # patch (2, 1, 3)
    start = 0
    for index, count in zip((2, 1, 3), pairs, strict=True):
        assert table[token, start].item() == pytest.approx(math.sin(index), abs=1e-6)
        assert table[token, start + count].item() == pytest.approx(math.cos(index), abs=1e-6)
        start += 2 * count
    assert start == width


@pytest.mark.parametrize("width", [192, 128, 384, 512, 768])
def test_sincos_positions__tell_all_tokens_apart(width: int) -> None:
    table = sincos_positions((6, 5, 4), width)
    distance = torch.cdist(table, table) + 10 * torch.eye(len(table))
    assert distance.min() > 0.1


def test_sincos_positions__refuse_an_odd_width() -> None:
    with pytest.raises(ConfigError, match="even width"):
        sincos_positions((2, 2, 2), 7)


def test_cosine_embedding__is_an_orthogonal_map_of_the_lowest_frequencies() -> None:
    weight = cosine_embedding((4, 4, 2), 20).double()
    gram = weight @ weight.T
    torch.testing.assert_close(gram, torch.diag(gram.diag()), atol=1e-6, rtol=0)
    assert (gram.diag() > 0).all()
    flat, ramp = torch.ones(32, dtype=torch.float64), torch.arange(4.0).repeat_interleave(8).double() - 1.5
    assert (weight @ flat)[0] > 0.5
    assert (weight @ flat)[1:].abs().max() < 1e-6  # only the constant term sees a constant patch
    assert (weight @ ramp).abs().argmax() in (1, 2, 3)
    assert not cosine_embedding((2, 2, 2), 12)[8:].any()


def test_initialize_attention__shared_queries_and_keys_attend_to_near_positions() -> None:
    torch.manual_seed(0)
    attention = Attention(96, 2)
    attention.apply(initialize)
    initialize_attention(attention, shared=True)
    tokens = torch.nn.functional.layer_norm(sincos_positions((8, 1, 1), 96, (4.0, 120.0))[None], (96,))
    query, key, _ = attention.qkv(tokens).chunk(3, dim=-1)
    assert torch.equal(query, key)
    weights = (query @ key.transpose(1, 2) / 48**0.5).softmax(-1)[0]
    assert weights.argmax(-1).tolist() == list(range(8))
    assert weights[0, 1] > weights[0, 4]
