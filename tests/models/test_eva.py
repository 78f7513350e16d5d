"""EVA blocks: rotary positions, initial weights. That nnU-Net's Primus computes the same is a test of the exporters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maesil.errors import ConfigError
from maesil.models.eva import EvaAttention, EvaBlock, Rotary, rotation_of
from maesil.models.initial import initialize, initialize_attention
from maesil.models.mae import MAEConfig
from maesil.presets import PRESETS


def test_rotation__scores_depend_on_differences_of_places() -> None:
    """What rotary positions are for: a pair of tokens has the same score wherever it is in the grid."""
    rotation = rotation_of((4, 5, 6), 24)
    query, key = torch.randn(2, 1, 1, 1, 24, generator=torch.Generator().manual_seed(0)).expand(2, 1, 1, 120, 24)
    turned_query, turned_key = rotation.turn(query)[0, 0], rotation.turn(key)[0, 0]
    scores = (turned_query @ turned_key.T).reshape(4, 5, 6, 4, 5, 6)
    torch.testing.assert_close(scores[0, 0, 0, 1, 2, 3], scores[2, 1, 2, 3, 3, 5])
    torch.testing.assert_close(scores[3, 4, 5, 3, 0, 5], scores[0, 4, 1, 0, 0, 1])
    straight = (query[0, 0, 0] * key[0, 0, 0]).sum()
    torch.testing.assert_close(scores[1, 1, 1, 1, 1, 1], straight)
    others = {round(float(scores[0, 0, 0, d, h, w]), 3) for d, h, w in ((1, 0, 0), (0, 1, 0), (0, 0, 1))}
    assert len(others) == 3, "each axis turns channels of its own"


def test_rotation__keeps_lengths_and_the_number_type() -> None:
    rotation = rotation_of((2, 2, 2), 12)
    vectors = torch.randn(3, 2, 8, 12)
    turned = rotation.turn(vectors)
    torch.testing.assert_close(turned.norm(dim=-1), vectors.norm(dim=-1))
    assert rotation.turn(vectors.bfloat16()).dtype == torch.bfloat16
    assert torch.equal(turned[:, :, 0], vectors[:, :, 0]), "the first token is at the origin"


def test_rotation__of_chosen_tokens_in_each_row() -> None:
    rotation = rotation_of((2, 2, 2), 12)
    chosen = torch.tensor([[0, 5, 3], [7, 1, 2]])
    vectors = torch.randn(2, 4, 3, 12)
    turned = rotation.of(chosen).turn(vectors)
    for row in range(2):
        torch.testing.assert_close(turned[row], rotation.of(chosen[row]).turn(vectors)[row])


def test_rotary__of_another_grid_is_counted_from_its_own_corner() -> None:
    """As in nnU-Net, where the angles of the plan's patch size are computed anew."""
    rotary = Rotary((4, 4, 4), 12)
    assert rotary().cosine is rotary.cosine
    torch.testing.assert_close(rotary((2, 4, 4)).sine, rotary().sine[:32])
    assert not rotary.state_dict(), "angles are computed, not stored"


def test_block__starts_near_the_identity_and_checkpoints_keep_their_names() -> None:
    torch.manual_seed(0)
    block = EvaBlock(24, 2, 2.0).apply(initialize)
    tokens = torch.randn(2, 8, 24)
    change = (block(tokens, rotation_of((2, 2, 2), 12)) - tokens).std() / tokens.std()
    assert 0.005 < change < 0.2
    assert "attention.key.bias" not in block.state_dict()
    assert {"scale1", "scale2", "attention.norm.weight", "mlp.gate.weight", "mlp.norm.bias"} <= set(block.state_dict())


def test_initialize_attention__shares_queries_and_keys() -> None:
    attention = EvaAttention(24, 2)
    initialize_attention(attention, shared=True)
    assert torch.equal(attention.query.weight, attention.key.weight)


@pytest.mark.parametrize(
    ("width", "heads", "fix"),
    [
        (192, 3, "--model.encoder-heads 4"),
        (24, 3, "--model.encoder-heads 4"),
        (64, 4, "--model.encoder-width: a multiple of 6"),
    ],
)
def test_config__refuses_heads_that_cannot_be_turned(width: int, heads: int, fix: str) -> None:
    told = f"{heads} heads of a width of {width} do not have a multiple of 6 channels"
    with pytest.raises(ConfigError, match=told) as raised:
        MAEConfig(encoder_block="eva", encoder_width=width, encoder_heads=heads)
    assert raised.value.fix == fix


@pytest.mark.parametrize(("preset", "heads"), [("base", 8), ("demo", 4), ("paper", 16)])
def test_docs__name_the_heads_with_which_presets_have_these_blocks(preset: str, heads: int) -> None:
    model = PRESETS[preset]().model
    assert isinstance(model, MAEConfig)
    assert replace(model, encoder_block="eva", encoder_heads=heads).encoder_block == "eva"
    with pytest.raises(ConfigError):
        replace(model, encoder_block="eva")
    page = (Path(__file__).parents[2] / "docs" / "downstream.md").read_text()
    assert f"`{preset}`: `--model.encoder-heads {heads}`" in page or f"`{preset}`: {heads}" in page
