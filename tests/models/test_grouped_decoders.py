"""Decoders whose tokens attend within groups: the groups are the right ones, and cross."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from maesil.errors import ConfigError
from maesil.masking import DualMasking
from maesil.models import attention
from maesil.models.grouped_decoders import mix_columns, mix_planes, mix_windows, window_edges
from maesil.models.mae import MAEConfig, MaskedAutoencoder, gather_tokens

SHAPE = (3, 8, 4)
WIDE = MAEConfig(
    superpatch=(24, 64, 64), encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=2, decoder_heads=2,
)  # fmt: skip


def numbered(shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """The places of two grids of tokens, as their only channels: row, plane, and position in the plane."""
    rows = torch.arange(2.0).view(2, 1, 1, 1).expand(2, *shape)
    places = torch.meshgrid(*(torch.arange(float(size)) for size in shape), indexing="ij")
    return torch.stack([rows, *(place.expand(2, *shape) for place in places)], dim=-1).flatten(1, 3)


def groups_of(mixed: Callable[..., Tensor], **options: bool) -> list[set[tuple[float, ...]]]:
    """The groups that a function gives its block, after a check that it puts all tokens back to their places."""
    seen: list[Tensor] = []
    tokens = numbered()
    assert torch.equal(mixed(tokens, lambda rows: seen.append(rows) or rows, SHAPE, **options), tokens)
    return [{tuple(token) for token in group.tolist()} for group in seen[0]]


def boxes(planes: int, high: int, wide: int) -> list[set[tuple[float, ...]]]:
    """The tokens of two grids, cut into boxes, in their order."""
    tokens = numbered().view(2, *SHAPE, 4)
    return [
        {tuple(token) for token in row[i : i + planes, j : j + high, k : k + wide].flatten(0, 2).tolist()}
        for row in tokens
        for i in range(0, SHAPE[0], planes)
        for j in range(0, SHAPE[1], high)
        for k in range(0, SHAPE[2], wide)
    ]


def test_mix__groups_are_planes_columns_and_windows_through_all_planes() -> None:
    assert groups_of(mix_planes) == boxes(1, 8, 4)
    assert groups_of(mix_columns) == boxes(3, 1, 1)
    assert groups_of(mix_windows, shifted=False) == boxes(3, 4, 4)


def test_mix_windows__shifted_ones_cross_the_others_and_wrap_around() -> None:
    plain, shifted = (groups_of(mix_windows, shifted=shifted) for shifted in (False, True))
    assert [len(group) for group in shifted] == [3 * 4 * 4] * 4
    assert {(0, 0, 3, 0), (0, 0, 4, 3), (0, 2, 5, 1)} <= shifted[0]
    assert {(0, 0, 0, 0), (0, 0, 7, 0)} <= shifted[1]
    assert all(0 < len(group & other) < len(group) for group in shifted[:2] for other in plain[:2])


def reached(decoder: str, superpatch: tuple[int, int, int]) -> Tensor:
    """The tokens, as a grid, whose features after two blocks depend on the first latent token of a superpatch."""
    torch.manual_seed(0)
    model = MaskedAutoencoder(replace(WIDE, decoder=decoder, superpatch=superpatch), DualMasking())
    latent, visible = torch.randn(1, 20, 24), torch.arange(20).view(1, 20)
    changed = latent.clone()
    changed[:, 0] += 1.0
    with torch.no_grad():
        difference = (model.decoder(changed, visible) - model.decoder(latent, visible)).abs().amax(dim=-1)
    return (difference[0] > 1e-6).view(model.grid.shape)


def test_decoders__two_blocks_reach_all_tokens_or_the_windows_around() -> None:
    assert reached("axial", (24, 64, 64)).all()
    # The token's window is rows and columns 0 to 3; shifted ones reach two tokens beyond it, and around the edges.
    near = torch.tensor([index in (14, 15, 0, 1, 2, 3, 4, 5) for index in range(16)])
    assert torch.equal(reached("windows", (16, 128, 128)), (near[:, None] & near[None]).expand(2, -1, -1))


@pytest.mark.parametrize("decoder", ["axial", "windows"])
def test_forward__returns_the_wanted_tokens_in_their_order(decoder: str) -> None:
    model = MaskedAutoencoder(replace(WIDE, decoder=decoder), DualMasking())
    latent, visible = torch.randn(2, 5, 24), torch.tensor([[1, 5, 90, 100, 180], [0, 2, 3, 60, 191]])
    wanted = torch.tensor([[7, 3, 150], [90, 1, 2]])
    everything = model.decoder(latent, visible)
    assert torch.equal(model.decoder(latent, visible, wanted), gather_tokens(everything, wanted))


@pytest.mark.parametrize("decoder", ["axial", "windows"])
def test_config__refuses_one_block(decoder: str) -> None:
    with pytest.raises(ConfigError, match="at least two blocks"):
        replace(WIDE, decoder=decoder, decoder_depth=1)


def test_config__refuses_planes_without_windows() -> None:
    assert window_edges((5, 6, 16)) == (3, 4)
    with pytest.raises(ConfigError, match="do not divide planes of 8x7 tokens"):
        replace(WIDE, decoder="windows", superpatch=(24, 64, 56))


def test_attend__leaves_many_small_heads_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    forward = attention.BlockedAttention.forward
    monkeypatch.setattr(attention.BlockedAttention, "forward", lambda *inputs: used.append(1) or forward(*inputs))
    for heads in (attention.MOST_HEADS, attention.MOST_HEADS + 1):
        query = torch.randn(heads, 1, 4, 8).bfloat16()
        attention.attend(query, query, query)
    assert len(used) == 1
