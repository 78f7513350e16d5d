"""Measures what overlapping head and fusion cost: steps of a preset's network and of its fusion, and the fill alone.

All take turns in one process. The reference is a step of the network as the preset trains it; `plain network` is the
same one with the paper's head. A step of the fusion runs the frozen network without gradients, the fill, and the
fusion's U-Net forward and backward. Steps are forward, backward, clipping and AdamW, whatever the preset's optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from benchmarks.harness import Contender, Report, Row, Timing, parser, race, read_options
from maesil.allocator import EVERYTHING, keep_freed_memory
from maesil.masking import Masking
from maesil.models.fusion import FusionConfig
from maesil.models.mae import MAEConfig, MaskedAutoencoder
from maesil.presets import PRESETS

NETWORK, FUSION, FILL = "network", "fusion", "fill alone"
PLAIN: dict[str, Any] = {"head": "patch", "visible_head": False, "fusion": FusionConfig()}


def main(words: Sequence[str]) -> Report:
    made = parser("fusion", __doc__)
    made.add_argument("--preset", default="demo", choices=("demo", "base"), help="preset (default: %(default)s)")
    made.add_argument("--batch", type=int, default=None, help="number of superpatches (default: the preset's)")
    made.add_argument("--threads", type=int, default=None, help="number of CPU threads (default: PyTorch's choice)")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = read_options(made, words)
    if options.threads:
        torch.set_num_threads(options.threads)
    keep_freed_memory(EVERYTHING)  # as in a training
    config = PRESETS[options.preset]()
    assert isinstance(config.model, MAEConfig)
    batch = options.batch or config.train.batch
    timings = race(contenders(config.model, config.masking, batch, options.device), options.rounds)
    reference = timings[NETWORK]
    rows = [_row(options.preset, name, timing, reference) for name, timing in timings.items()]
    settings = {
        "preset": options.preset,
        "batch": batch,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
    }
    return Report(options.name, f"Head and fusion of '{options.preset}'", rows, [], settings, options)


def contenders(model: MAEConfig, masking: Masking, batch: int, device: str) -> list[Contender]:
    """A step of the network, of those with other heads and of the fusion, and the fill alone, on random superpatches.

    Args:
        model: Model with a fusion.
        masking: Masking strategy.
        batch: Number of superpatches.
        device: Device, "cpu" or "cuda".
    """
    network = MaskedAutoencoder(model, masking).to(device)
    plain = MaskedAutoencoder(replace(model, **PLAIN), masking).to(device)
    superpatch = torch.rand(batch, 1, *model.superpatch, device=device)
    mask = network.draw_mask(batch, torch.Generator(device).manual_seed(0))
    hidden, fusion = network.voxel_mask(mask), network.fusion
    assert fusion is not None
    runs: dict[str, Callable[[], object]] = {
        NETWORK: stepping(network, lambda: network.loss(superpatch, mask)),
        "plain network": stepping(plain, lambda: plain.loss(superpatch, mask)),
        FUSION: stepping(fusion, lambda: network.last_loss(superpatch, mask)),
        FILL: lambda: fusion.fill(superpatch, hidden),
    }
    return [Contender(name, synchronised(run, device), batch) for name, run in runs.items()]


def stepping(trained: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """A step: loss, gradients, clipping, fused AdamW of the parameters that are trained."""
    optimizer = AdamW(trained.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)

    def step() -> None:
        loss().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def synchronised(run: Callable[[], object], device: str) -> Callable[[], None]:
    """The same function, which returns when the device has finished."""

    def whole() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    return whole


def _row(group: str, name: str, timing: Timing, reference: Timing) -> Row:
    faster = timing.times_faster_than(reference)
    more = {"superpatches_per_s": timing.rate, "share_of_a_step": 1 / faster}
    return Row(group, name, timing.median_s, timing.spread, faster, more=more, rounds=timing.seconds)
