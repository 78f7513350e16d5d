"""Softmax attention by the fastest way there is for a device and a precision."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

SHORT_SEQUENCE = 1024
"""Keys up to which attention scores are made whole, and kept, on a CPU."""

BLOCK_ROWS = 512
"""Queries whose scores are made at a time: over 4,096 keys they take 4 MiB in bf16, which stays in a CPU's cache."""


def attend(
    query: Float[Tensor, "b heads m x"], key: Float[Tensor, "b heads n x"], value: Float[Tensor, "b heads n x"]
) -> Float[Tensor, "b heads m x"]:
    """Softmax attention: PyTorch's fused kernel, except where plain matrix products are faster.

    That is in bf16 on a CPU, whose fused kernel does not use the bf16 instructions backwards. Over a short sequence the
    scores fit into memory; over a long one they are made block by block, and anew in the backward pass, so that memory
    grows with the tokens and not with their square.
    """
    plain = query.device.type != "cpu" or query.dtype != torch.bfloat16
    long = key.shape[-2] > SHORT_SEQUENCE
    if plain or (long and torch.compiler.is_compiling()):
        return F.scaled_dot_product_attention(query, key, value)
    scaled = query * query.shape[-1] ** -0.5
    if long:
        blocked: Tensor = BlockedAttention.apply(scaled, key, value)  # type: ignore[no-untyped-call]
        return blocked
    mixed: Tensor = (scaled @ key.transpose(-1, -2)).softmax(dim=-1).to(value.dtype) @ value
    return mixed


@final
class BlockedAttention(torch.autograd.Function):
    """Attention of queries that are scaled already, `BLOCK_ROWS` of one head at a time; keeps no scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(b, heads, m, x), (b, heads, n, x), (b, heads, n, x) to (b, heads, m, x)."""
        heads = [tensor.flatten(0, 1).contiguous() for tensor in (query, key, value)]
        ctx.save_for_backward(*heads)
        ctx.rows = query.shape[0]
        mixed = torch.empty_like(heads[0])
        for one_query, one_key, one_value, one_mixed in zip(*heads, mixed, strict=True):
            for rows in _blocks(len(one_query)):
                torch.mm(_weights(one_query[rows], one_key), one_value, out=one_mixed[rows])
        return torch.unflatten(mixed, 0, (ctx.rows, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Gradients of query, key and value; those of key and value are summed in float32."""
        query, key, value = ctx.saved_tensors
        incoming = gradient.flatten(0, 1).contiguous()
        of_query = torch.empty_like(query)
        of_key, of_value = torch.zeros(key.shape), torch.zeros(value.shape)
        for head in range(len(query)):
            for rows in _blocks(query.shape[1]):
                weights = _weights(query[head, rows], key[head])
                of_value[head] += weights.t() @ incoming[head, rows]
                of_weights = incoming[head, rows] @ value[head].t()
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
                torch.mm(of_scores, key[head], out=of_query[head, rows])
                of_key[head] += of_scores.t() @ query[head, rows]
        gradients = (of_query, of_key.to(key.dtype), of_value.to(value.dtype))
        return tuple(torch.unflatten(one, 0, (ctx.rows, -1)) for one in gradients)


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + BLOCK_ROWS) for start in range(0, count, BLOCK_ROWS)]


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """Attention weights (m, n) of one block; softmax computes in float32 inside."""
    return torch.softmax(query @ key.t(), dim=-1)
