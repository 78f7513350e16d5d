"""Initial weights of masked autoencoders."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maesil.models.eva import EvaAttention
from maesil.models.transformer import Attention, PatchDecoder
from maesil.shapes import Shape3

Start = Literal["xavier", "local"]
"""Kind of initial weights.

"xavier": Xavier-uniform everywhere. "local": in addition queries equal keys, so that tokens attend to near positions
first, and the embedding is a cosine transform of the patch.
"""
SHARED_SCALE = 0.7
"""Factor of shared queries and keys: their products add up, while products of independent ones cancel."""
COSINE_SCALE = 0.1
"""Factor of the embedding's constant term; higher frequencies get larger factors, because CT has less of them."""


def initialize_network(
    network: nn.Module, embed: nn.Linear, decoder: PatchDecoder, *, start: Start, patch: Shape3
) -> None:
    """Initialises a masked autoencoder.

    Args:
        network: The whole model.
        embed: Embedding of its encoder.
        decoder: Its decoder.
        start: Kind of initial weights.
        patch: Voxels of a patch along (S, P, L).
    """
    network.apply(initialize)
    for module in network.modules():
        if isinstance(module, Attention | EvaAttention):
            initialize_attention(module, shared=start == "local")
    if start == "local":
        embed.weight.data = cosine_embedding(patch, embed.out_features)
    nn.init.normal_(decoder.mask_token, std=0.02)
    # A head of zeros predicts the mean of the data: from a random one, the first thousand steps only unlearn noise.
    nn.init.zeros_(decoder.head.weight)


def initialize(module: nn.Module) -> None:
    """Makes linear layers Xavier-uniform with zero biases, and layer norms the identity; for `module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def initialize_attention(attention: Attention | EvaAttention, *, shared: bool = False) -> None:
    """Initialises the projections of an attention layer after `initialize`.

    A fused projection is three square matrices; Xavier's range for the whole of it would be too narrow.

    Args:
        attention: The layer.
        shared: Whether queries start equal to keys, so that a token attends to tokens of similar position and content
            (after Trockman and Kolter 2023).
    """
    if isinstance(attention, Attention) and attention.fused:
        width = attention.qkv.in_features
        bound = math.sqrt(6.0 / (2 * width))
        nn.init.uniform_(attention.qkv.weight, -bound, bound)
        query, key, _ = attention.qkv.weight.data.chunk(3)
    else:
        query, key = attention.query.weight.data, attention.key.weight.data
    if shared:
        query *= SHARED_SCALE
        key.copy_(query)


def inverse_layer(layer: nn.Linear) -> nn.Linear:
    """A linear layer that rebuilds another's input from its output, as well as a linear map can."""
    inverse = nn.Linear(layer.out_features, layer.in_features)
    with torch.no_grad():
        inverse.weight.copy_(torch.linalg.pinv(layer.weight))
        inverse.bias.copy_(-inverse.weight @ layer.bias)
    return inverse


def cosine_embedding(patch: Shape3, width: int) -> Float[Tensor, "width p"]:
    """The `width` lowest frequencies of a patch's 3D cosine transform, as a linear map of its voxels.

    There are as many frequencies as voxels; further channels are zero.
    """
    bases = [_cosines(size) for size in patch]
    frequency = torch.cartesian_prod(*(torch.arange(size) for size in patch))
    radius = frequency.double().norm(dim=1)
    order = radius.argsort(stable=True)[:width]
    waves = [basis[frequency[order, axis]] for axis, basis in enumerate(bases)]
    rows = torch.einsum("ei,ej,ek->eijk", *waves).flatten(1)
    weight = torch.zeros(width, rows.shape[1])
    weight[: len(order)] = (rows * (COSINE_SCALE * (1 + radius[order]))[:, None]).float()
    return weight


def _cosines(size: int) -> Float[Tensor, "f x"]:
    """The orthonormal cosine transform of one axis; rows are frequencies."""
    place = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi * (place[None] + 0.5) * place[:, None] / size) * math.sqrt(2.0 / size)
    basis[0] /= math.sqrt(2.0)
    return basis
