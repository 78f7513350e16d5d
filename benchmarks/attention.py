"""Measures the decoder's attention alone, over all tokens of a superpatch: rates of its kernels and their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from torch import Tensor

from benchmarks.harness import Contender, Limit, Row, race
from maesil.models.attention import BLOCK_ROWS, BlockedAttention
from maesil.models.mae import MAEConfig

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
KERNELS: dict[str, Attention] = {
    "PyTorch's kernel": F.scaled_dot_product_attention,
    "blocked products": BlockedAttention.apply,
}
FORWARD, BACKWARD = 4, 10
"""FLOPs per score and channel: two products forward, and five backward, where scores are recomputed."""


def rows(model: MAEConfig, device: str, limits: dict[bool, Contender], rounds: int) -> tuple[list[Row], list[Limit]]:
    """Times the forward and backward pass in fp32 and bf16, and the product and exponentials of a block.

    Args:
        model: Configuration that gives the size of the decoder.
        device: "cpu" or "cuda"; blocked products are measured on the CPU only.
        limits: Contender for a large matrix product, by whether it is in bf16.
        rounds: Number of timed rounds.
    """
    found, measured = [], []
    for bf16, product in limits.items():
        contenders = list(_contenders(model, device, torch.bfloat16 if bf16 else torch.float32))
        timings = race([*contenders, product], rounds)
        limit = Limit(product.name, timings.pop(product.name).rate / 1e9, "GFLOP/s")
        measured.append(limit)
        for contender in contenders:
            timing = timings[contender.name]
            counted = contender.work > 1  # exponentials do not count as FLOPs
            rate = timing.rate / 1e9 if counted else None
            found.append(
                Row(
                    f"attention, {'bf16' if bf16 else 'fp32'}", contender.name, timing.median_s, timing.spread,
                    share_of_limit=rate / limit.rate if rate else None, limit=limit.name if rate else None,
                    more={"gflop_per_s": rate} if rate else {}, rounds=timing.seconds,
                )
            )  # fmt: skip
    return found, measured


def _contenders(model: MAEConfig, device: str, dtype: torch.dtype) -> Iterator[Contender]:
    tokens, heads = model.grid.tokens, model.decoder_heads
    width = model.decoder_width // heads
    query, key, value, gradient = (
        (torch.randn(1, heads, tokens, width, device=device) / 2).to(dtype) for _ in range(4)
    )
    products = float(heads * tokens**2 * width)
    for name, attention in KERNELS.items():
        if device == "cuda" and name != "PyTorch's kernel":
            continue
        inputs = tuple(tensor.clone().requires_grad_() for tensor in (query, key, value))
        mixed = attention(*inputs)
        forward = partial(_repeat, device, 1, partial(attention, query, key, value))
        pull = partial(torch.autograd.grad, mixed, inputs, gradient, retain_graph=True)
        backward = partial(_repeat, device, 1, pull)
        yield Contender(f"{name}, forwards", forward, FORWARD * products)
        yield Contender(f"{name}, backwards", backward, BACKWARD * products)
    block, others = query[0, 0, :BLOCK_ROWS], key[0, 0].t()
    scores = block @ others
    times = heads * -(-tokens // BLOCK_ROWS)
    one = 2.0 * times * block.shape[0] * tokens * width
    multiply = partial(torch.mm, block, others, out=scores)
    yield Contender("scores alone, block by block", partial(_repeat, device, times, multiply), one)
    exponentiate = partial(torch.exp2, block @ others, out=scores.clone())
    yield Contender("exponentials alone", partial(_repeat, device, times, exponentiate))


def _repeat(device: str, times: int, work: Callable[[], object]) -> None:
    for _ in range(times):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
