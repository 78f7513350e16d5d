"""Transformer bricks against a published implementation with the same weights."""

from __future__ import annotations

import math

import pytest
import torch

from maesil.errors import ConfigError
from maesil.models.transformer import Attention, Block, sincos_positions


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


def test_attention__equals_the_formula() -> None:
    torch.manual_seed(0)
    attention = Attention(12, 3)
    tokens = torch.randn(2, 7, 12)
    query, key, value = attention.qkv(tokens).view(2, 7, 3, 3, 4).unbind(2)
    heads = []
    for head in range(3):
        scores = query[:, :, head] @ key[:, :, head].transpose(1, 2) / math.sqrt(4)
        heads.append(scores.softmax(-1) @ value[:, :, head])
    torch.testing.assert_close(attention(tokens), attention.out(torch.cat(heads, -1)))


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
