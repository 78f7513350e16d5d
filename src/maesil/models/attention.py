"""Softmax attention by the fastest implementation for a device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

BLOCK_ROWS = 512
"""Number of rows of scores computed at a time: with 4,096 columns they take 4 MiB in bf16, which fits a CPU's cache."""

CACHE_LINE_BYTES = 64
"""Padding of each row of scores, in bytes: with a stride of a power of two, the elements of a column would compete for
the same few sets of the cache."""

LARGEST_SCORE = 60.0
"""Upper bound of a score in base 2, up to which exponentials and their sums stay within the range of a float."""

MOST_HEADS = 512
"""Number of heads, over all rows of a batch, up to which `BlockedAttention` is used: it computes them one by one, and
many heads have few tokens each, as in local attention."""


def attend(
    query: Float[Tensor, "b heads m x"], key: Float[Tensor, "b heads n x"], value: Float[Tensor, "b heads n x"]
) -> Float[Tensor, "b heads m x"]:
    """Softmax attention: PyTorch's fused kernel, except in bf16 on a CPU, where `BlockedAttention` is faster.

    `BlockedAttention` rounds scores to bf16, and does not subtract the largest one before it takes exponentials. So it
    runs only where scores cannot be large, and never under torch.compile or on tensors without data.
    """
    on_cpu = query.device.type == "cpu" and not isinstance(query, FakeTensor)
    blocked = on_cpu and query.dtype == torch.bfloat16 and not torch.compiler.is_compiling()
    few = query.shape[0] * query.shape[1] <= MOST_HEADS
    if not blocked or not few or not _largest_score(query, key) < LARGEST_SCORE:
        return F.scaled_dot_product_attention(query, key, value)
    mixed: Tensor = BlockedAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
    return mixed


def _scale(query: Tensor) -> float:
    """Factor of the product of query and key, for a softmax with powers of two."""
    return math.log2(math.e) / math.sqrt(query.shape[-1])


@torch.no_grad()
def _largest_score(query: Float[Tensor, "b heads m x"], key: Float[Tensor, "b heads n x"]) -> float:
    """Upper bound of the absolute scores, from the lengths of queries and keys."""
    lengths = [torch.linalg.vector_norm(one, dim=-1, dtype=torch.float32).amax(dim=-1) for one in (query, key)]
    return _scale(query) * float((lengths[0] * lengths[1]).max())


@final
class BlockedAttention(torch.autograd.Function):
    """Attention as plain matrix products, `BLOCK_ROWS` rows of one head at a time; no scores are kept.

    The softmax is normalised on the narrow matrices instead of the scores: outputs after the weighted sum, and their
    gradients before it.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(b, heads, m, x), (b, heads, n, x), (b, heads, n, x) to (b, heads, m, x)."""
        heads = [tensor.flatten(0, 1).contiguous() for tensor in (query, key, value)]
        mixed, total = torch.empty_like(heads[0]), heads[0].new_empty((*heads[0].shape[:2], 1))
        (space,) = _spaces(1, heads[0], key.shape[-2])
        for one_query, one_key, one_value, one_mixed, one_total in zip(*heads, mixed, total, strict=True):
            for rows in _blocks(len(one_query)):
                scores = _exponentials(one_query[rows], one_key, space)
                torch.sum(scores, dim=-1, keepdim=True, out=one_total[rows])
                torch.mm(scores, one_value, out=one_mixed[rows])
        mixed /= total
        ctx.save_for_backward(*heads, mixed, total)
        return torch.unflatten(mixed, 0, query.shape[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """Gradients of query, key and value, computed for blocks of keys over all queries."""
        query, key, value, mixed, total = ctx.saved_tensors
        incoming = gradient.flatten(0, 1) / total
        # Gradient of a score: weight * (gradient of the weight - its weighted mean over the row).
        mean = -(incoming.float() * mixed.float()).sum(dim=-1, keepdim=True).transpose(1, 2).to(incoming.dtype)
        of_query = torch.zeros(query.transpose(1, 2).shape)
        of_key, of_value = torch.empty_like(key), torch.empty_like(value)
        spaces = _spaces(2, query, query.shape[1])
        for head in range(len(query)):
            for rows in _blocks(key.shape[1]):
                weights = _exponentials(key[head, rows], query[head], spaces[0])
                torch.mm(weights, incoming[head], out=of_value[head, rows])
                passed = torch.addmm(mean[head], value[head, rows], incoming[head].t(), out=spaces[1, : len(weights)])
                of_scores = weights.mul_(passed)
                torch.mm(of_scores, query[head], out=of_key[head, rows])
                of_query[head] += key[head, rows].t() @ of_scores
        scale = 1 / math.sqrt(query.shape[-1])
        gradients = (of_query.mul_(scale).transpose(1, 2).to(query.dtype), of_key.mul_(scale), of_value)
        return tuple(torch.unflatten(one, 0, gradient.shape[:2]) for one in gradients)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK_ROWS, count)) for start in range(0, count, BLOCK_ROWS))


def _spaces(count: int, like: Tensor, columns: int) -> Float[Tensor, "count r n"]:
    """Buffers for blocks of scores."""
    spaces = like.new_empty(count, BLOCK_ROWS, columns + CACHE_LINE_BYTES // like.element_size())
    return spaces[:, :, :columns]


def _exponentials(rows: Float[Tensor, "r x"], columns: Float[Tensor, "n x"], space: Tensor) -> Float[Tensor, "r n"]:
    """Unnormalised attention weights of one block, written into `space`."""
    scores = space[: len(rows)]
    torch.addmm(scores, rows, columns.t(), beta=0, alpha=_scale(rows), out=scores)
    return torch.exp2(scores, out=scores)
