"""Compares a training step (forward, backward, AdamW) with MONAI's MaskedAutoEncoderViT in one configuration.

Parts (``--parts``):

* race: seconds per step and peak memory of every contender. They take turns in fresh processes, as they use different
  settings of the memory allocator; each turn also measures a large matrix product;
* flops: model FLOPs of a step by formula, compared with PyTorch's counter on tensors without data;
* tokens: growth of our step with the number of tokens, by patch and by superpatch;
* batches: our step by batch size, with and without torch.compile, until memory is exhausted;
* profile: time of our step by operator;
* attention: the decoder's attention alone, and its parts.

The default is the paper's geometry with a decoder of width 384, as MONAI's positions require a multiple of 6.
``--size tiny`` tries everything in a minute or two. On a GPU, ``--preset`` measures the preset `paper` itself. MONAI is
optional.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from torch import Tensor, nn
from torch.optim import AdamW

from benchmarks import attention
from benchmarks.harness import (
    Contender,
    Limit,
    Report,
    Row,
    Timing,
    apart,
    parser,
    race,
    read_options,
    several,
)
from maesil.allocator import EVERYTHING, keep_freed_memory
from maesil.masking import DualMasking
from maesil.memory import GIB, peak_resident_gib
from maesil.models import transformer
from maesil.models.cost import mae_flops
from maesil.models.mae import MAEConfig, MaskedAutoencoder
from maesil.models.transformer import recompute_blocks
from maesil.training.devices import cpu_multiplies_bf16

PARTS = ("race", "flops", "tokens", "batches", "profile", "attention")
COMPILED = (False, True)
"""Whether to compile the model, for each pass of the part batches."""
Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Setting:
    """The configuration of a step.

    Attributes:
        model: Model configuration; its geometry holds for all contenders, its options for ours.
        device: Device, "cpu" or "cuda".
        batch: Number of superpatches.
        threads: Number of CPU threads.
        compile: Whether ours runs through torch.compile.
    """

    model: MAEConfig
    device: str
    batch: int
    threads: int
    compile: bool = False

    @property
    def visible(self) -> int:
        """Number of visible tokens of a superpatch."""
        return DualMasking().visible_count(self.model.grid)


SIZES = {
    "paper": MAEConfig(decoder_width=384, decoder_heads=12),
    "tiny": MAEConfig(
        superpatch=(32, 32, 32), encoder_width=48, encoder_depth=2, encoder_heads=4,
        decoder_width=24, decoder_depth=2, decoder_heads=2,
    ),
}  # fmt: skip


def main(words: Sequence[str]) -> Report:
    made = parser("step", __doc__)
    made.add_argument(
        "--parts",
        type=several(PARTS),
        default="race,flops",
        help=f"parts to run, of {','.join(PARTS)} (default: %(default)s)",
    )
    made.add_argument(
        "--size",
        choices=SIZES,
        default="paper",
        help="geometry; tiny is for trials, and its numbers mean nothing (default: %(default)s)",
    )
    made.add_argument(
        "--preset", choices=("paper",), help="use the preset's geometry, with a decoder of width 512; without MONAI"
    )
    made.add_argument("--decoder-depth", type=int, default=None, help="number of decoder blocks (default: 8, tiny: 2)")
    made.add_argument("--batch", type=int, default=1, help="number of superpatches (default: %(default)s)")
    made.add_argument("--threads", type=int, default=None, help="number of CPU threads (default: PyTorch's choice)")
    made.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--compile", action="store_true", help="run ours through torch.compile")
    made.add_argument(
        "--batches", default="1,2,4,8,16,32,64,128", help="sizes in the part batches (default: %(default)s)"
    )
    made.add_argument(
        "--sizes", default=None, help="sizes in the part tokens, EDGE/PATCH,... (default: 64/16 to 192/8)"
    )
    made.add_argument(
        "--only",
        type=several(CONTENDERS, ";"),
        default=None,
        help=f"contenders to run, separated by semicolons, of: {'; '.join(CONTENDERS)} (default: all)",
    )
    options = read_options(made, words)
    if options.threads:
        torch.set_num_threads(options.threads)
    return measure(options)


def measure(options: argparse.Namespace) -> Report:
    setting = _setting(options)
    parts = options.parts
    names = options.only or list(CONTENDERS)
    if options.preset:
        names = [name for name in names if not name.startswith("MONAI")]
    rows, limits = _race(setting, names, options.rounds) if "race" in parts else ([], [])
    if "flops" in parts:
        rows += [_counted(name, setting) for name in COUNTED if not (options.preset and name == "MONAI")]
    if "tokens" in parts:
        rows += _tokens(setting, options)
    if "batches" in parts:
        more, limit = _batches(setting, names, [int(word) for word in options.batches.split(",")], options.rounds)
        rows, limits = rows + more, limits or [limit]
    if "profile" in parts:
        rows += _profiles(setting, names)
    if "attention" in parts:
        products = {bf16: _product(setting.device, bf16=bf16) for bf16 in (False, True)}
        more, measured = attention.rows(setting.model, setting.device, products, options.rounds)
        rows, limits = rows + more, limits or measured
    settings = {
        "model": vars(setting.model) | {"name": setting.model.name},
        "visible": setting.visible,
        "batch": setting.batch,
        "device": setting.device,
        "compile": setting.compile,
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "parts": parts,
    }
    grid, depth = setting.model.grid, setting.model.decoder_depth
    tried = ", tried out: these figures say nothing" if options.size == "tiny" else ""
    title = f"A training step{tried}: {grid.tokens} tokens, {setting.visible} visible, {depth} decoder blocks"
    draw = {("tokens",): plot_growth, ("batches",): plot_batches, ("profile",): plot_profile}.get(tuple(parts))
    return Report(options.name, title, rows, limits, settings, options, draw)


def _setting(options: argparse.Namespace) -> Setting:
    model = MAEConfig() if options.preset else SIZES[options.size]
    if options.decoder_depth:
        model = replace(model, decoder_depth=options.decoder_depth)
    return Setting(model, options.device, options.batch, torch.get_num_threads(), options.compile)


# --- contenders -------------------------------------------------------------------------------------------------------


def monai(setting: Setting, *, bf16: bool) -> Step:
    """MONAI's network, which draws its own masks, with the paper's loss over masked patches."""
    from monai.networks.nets.masked_autoencoder_vit import MaskedAutoEncoderViT

    model = setting.model
    network = MaskedAutoEncoderViT(
        in_channels=1,
        img_size=model.superpatch,
        patch_size=model.patch,
        hidden_size=model.encoder_width,
        mlp_dim=int(model.mlp_ratio * model.encoder_width),
        num_layers=model.encoder_depth,
        num_heads=model.encoder_heads,
        masking_ratio=1 - setting.visible / model.grid.tokens,
        decoder_hidden_size=model.decoder_width,
        decoder_mlp_dim=int(model.mlp_ratio * model.decoder_width),
        decoder_num_layers=model.decoder_depth,
        decoder_num_heads=model.decoder_heads,
        qkv_bias=True,
    )

    def loss(superpatch: Tensor) -> Tensor:
        predicted, mask = network(superpatch)
        error = (predicted.float() - model.grid.patchify(superpatch)).square().mean(dim=-1)
        total: Tensor = (error * mask).sum() / mask.sum()
        return total

    return _stepping(network, loss, setting, bf16=bf16)


def ours(
    setting: Setting,
    *,
    bf16: bool,
    recompute: bool = False,
    fused_attention: bool = False,
    freed_memory_kept: bool = True,
    **options: Any,
) -> Step:
    """Makes a step of `maesil`'s network, as `maesil pretrain` trains it.

    Args:
        setting: Configuration of the step.
        bf16: Whether to use bf16 autocast.
        recompute: Whether to recompute activations in the backward pass.
        fused_attention: Whether to use PyTorch's kernel instead of `maesil.models.attention`, for comparison.
        freed_memory_kept: Whether this process keeps freed memory from now on, see `maesil.allocator`.
        options: Fields of `MAEConfig` to change.
    """
    if freed_memory_kept:
        keep_freed_memory(EVERYTHING)
    network = MaskedAutoencoder(changed(setting.model, options), DualMasking())
    if recompute:
        recompute_blocks(network)
    generator = torch.Generator(setting.device).manual_seed(0)
    inner = torch.compile(network.loss, dynamic=False) if setting.compile else network.loss

    def loss(superpatch: Tensor) -> Tensor:
        mask = network.draw_mask(len(superpatch), generator)
        with patch.object(transformer, "attend", F.scaled_dot_product_attention) if fused_attention else nullcontext():
            return inner(superpatch, mask, [generator] * len(superpatch))

    return _stepping(network, loss, setting, bf16=bf16)


def _stepping(network: nn.Module, loss: Callable[[Tensor], Tensor], setting: Setting, *, bf16: bool) -> Step:
    """Makes the step that all contenders share: loss, gradients, clipping, fused AdamW."""
    if setting.device != "cpu":  # tensors without data cannot be moved, even to their own device
        network.to(setting.device)
    optimizer = AdamW(network.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    superpatch = torch.rand(setting.batch, 1, *setting.model.superpatch).to(setting.device)

    def step() -> Tensor:
        with torch.autocast(setting.device, torch.bfloat16, enabled=bf16):
            value = loss(superpatch)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if setting.device == "cuda":
            torch.cuda.synchronize()
        return value.detach()

    return step


FAST: dict[str, Any] = {"decoder": "cross", "rebuilt_share": 0.25}
"""The fast recipe's objective."""
OPTIONS: dict[str, dict[str, Any]] = {
    "cross decoder": FAST,
    "axial decoder": {"decoder": "axial"},
    "windows decoder": {"decoder": "windows"},
    "overlapping head": {"head": "overlap"},
    "EVA blocks": {"encoder_block": "eva", "mlp_ratio": 8 / 3},
}
"""Words in a contender's name to the options of `MAEConfig` that they stand for."""

CONTENDERS: dict[str, Callable[[Setting], Step]] = {
    "MONAI, fp32": partial(monai, bf16=False),
    "MONAI, bf16": partial(monai, bf16=True),
    "maesil, fp32": partial(ours, bf16=False),
    "maesil, bf16": partial(ours, bf16=True),
    "maesil, bf16, PyTorch's attention": partial(ours, bf16=True, fused_attention=True),
    "maesil, bf16, recompute": partial(ours, bf16=True, recompute=True),
    "maesil, bf16, freed memory given back": partial(ours, bf16=True, freed_memory_kept=False),
    "maesil, bf16, cross decoder, a quarter rebuilt": partial(ours, bf16=True, **FAST),
    "maesil, fp32, axial decoder": partial(ours, bf16=False, **OPTIONS["axial decoder"]),
    "maesil, bf16, axial decoder": partial(ours, bf16=True, **OPTIONS["axial decoder"]),
    "maesil, fp32, windows decoder": partial(ours, bf16=False, **OPTIONS["windows decoder"]),
    "maesil, bf16, windows decoder": partial(ours, bf16=True, **OPTIONS["windows decoder"]),
    "maesil, fp32, overlapping head": partial(ours, bf16=False, **OPTIONS["overlapping head"]),
    "maesil, fp32, EVA blocks": partial(ours, bf16=False, **OPTIONS["EVA blocks"]),
    "maesil, bf16, EVA blocks": partial(ours, bf16=True, **OPTIONS["EVA blocks"]),
}
REFERENCE = "MONAI, fp32"


EVA_HEAD = 48
"""Channels of a head of an EVA block, a multiple of 6: 16 heads at the paper's width."""


def changed(model: MAEConfig, options: Mapping[str, Any]) -> MAEConfig:
    """The model with some options; EVA blocks also get heads that fit them."""
    if options.get("encoder_block") == "eva":
        options = {**options, "encoder_heads": model.encoder_width // EVA_HEAD}
    return replace(model, **options)


def model_flops(name: str, setting: Setting) -> float | None:
    """FLOPs of one step of ours by formula; None for others, whose rows only give ratios of time."""
    if not name.startswith("maesil"):
        return None
    options = next((options for words, options in OPTIONS.items() if words in name), {})
    return float(setting.batch * mae_flops(changed(setting.model, options), setting.visible))


# --- race -------------------------------------------------------------------------------------------------------------

WARMUP = 2
"""Number of untimed steps of a turn; only from the second on is all of the optimiser's memory in use."""
TIMED = {"cpu": 2, "cuda": 20}
"""Number of timed steps of a turn, by device."""


@dataclass(frozen=True)
class Turn:
    """The measurements of a contender in a separate process.

    Attributes:
        seconds: Time of a step.
        peak_gib: Peak memory of two steps: of the GPU, or of the entire process on a CPU.
        product: FLOP/s of a large matrix product in the contender's precision, measured just before and after.
    """

    seconds: float
    peak_gib: float
    product: float


def turn(name: str, setting: Setting) -> Turn:
    """Runs a few steps of a contender, in a fresh process, as settings of the allocator cannot be undone."""
    torch.set_num_threads(setting.threads)
    step = CONTENDERS[name](setting)
    for _ in range(WARMUP):
        step()
    # The peak is constant from the second step on; a matrix product in addition to the weights may need more.
    peak = torch.cuda.max_memory_allocated() / GIB if setting.device == "cuda" else peak_resident_gib()
    rates = [_product_rate(setting.device, bf16=is_bf16(name))]
    seconds = []
    for _ in range(TIMED[setting.device]):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    rates.append(_product_rate(setting.device, bf16=is_bf16(name)))
    return Turn(statistics.median(seconds), peak, statistics.mean(rates))


def is_bf16(name: str) -> bool:
    """Whether a contender computes in bf16, according to its name."""
    return "bf16" in name


def _race(setting: Setting, names: list[str], rounds: int) -> tuple[list[Row], list[Limit]]:
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for name in (name for name in names if name not in failed):
            try:
                turns[name].append(apart(turn, name, setting).value)
            except (RuntimeError, ImportError) as error:
                failed[name] = f"does not run: {str(error).splitlines()[0][:120]}"
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    turns = {name: of_one for name, of_one in turns.items() if name not in failed}
    timings = {name: Timing(tuple(one.seconds for one in of_one), setting.batch) for name, of_one in turns.items()}
    group = f"{setting.model.decoder_depth} decoder blocks"
    rows = [
        Row(group, name, note=failed[name]) if name in failed else _row(group, name, setting, turns[name], timings)
        for name in names
    ]
    return rows, _limits(turns)


def _row(group: str, name: str, setting: Setting, turns: list[Turn], timings: Mapping[str, Timing]) -> Row:
    timing, reference = timings[name], timings.get(REFERENCE, next(iter(timings.values())))
    flops = model_flops(name, setting)
    # Within a turn, both ran at the same time of the machine.
    shares = [flops / one.seconds / one.product for one in turns] if flops else []
    return Row(
        group,
        name,
        timing.median_s,
        timing.spread,
        timing.times_faster_than(reference),
        max(one.peak_gib for one in turns),
        statistics.median(shares) if shares else None,
        _product_name(bf16=is_bf16(name)) if shares else None,
        {"superpatches_per_s": timing.rate, **({"model_gflop": flops / 1e9} if flops else {})},
        rounds=timing.seconds,
    )


def _limits(turns: Mapping[str, list[Turn]]) -> list[Limit]:
    """Median rates of matrix products, for the precisions that ran."""
    found = []
    for bf16 in (False, True):
        rates = [one.product for name, of_one in turns.items() if is_bf16(name) == bf16 for one in of_one]
        if rates:
            found.append(Limit(_product_name(bf16=bf16), statistics.median(rates) / 1e9, "GFLOP/s"))
    return found


EMULATED_EDGE = 384
"""Edge of a product in emulated bf16, which is a hundred times slower than fp32; the size hardly affects its rate."""


def _product_name(*, bf16: bool) -> str:
    return f"matrix product, {'bf16' if bf16 else 'fp32'}"


def _product_rate(device: str, *, bf16: bool) -> float:
    """FLOP/s of one timed run; leaves no memory in use."""
    product = _product(device, bf16=bf16)
    begin = time.perf_counter()
    product.run()
    return product.work / (time.perf_counter() - begin)


def _product(device: str, *, bf16: bool) -> Contender:
    """Makes a large matrix product, as the limit of the device."""
    edge = 8192 if device == "cuda" else 2048
    if bf16 and device != "cuda" and not cpu_multiplies_bf16():
        edge = EMULATED_EDGE
    times = 50 if device == "cuda" else 6
    dtype = torch.bfloat16 if bf16 else torch.float32
    left, right, result = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(3))

    def run() -> None:
        for _ in range(times):
            torch.mm(left, right, out=result)  # without allocating memory for the result, which takes time
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    return Contender(_product_name(bf16=bf16), run, 2.0 * times * edge**3)


# --- FLOPs ------------------------------------------------------------------------------------------------------------

COUNTED: dict[str, Callable[[Setting], Step]] = {
    "MONAI": partial(monai, bf16=False),
    "maesil": partial(ours, bf16=False),
    "maesil, cross decoder, a quarter rebuilt": partial(ours, bf16=False, **FAST),
    "maesil, axial decoder": partial(ours, bf16=False, **OPTIONS["axial decoder"]),
    "maesil, windows decoder": partial(ours, bf16=False, **OPTIONS["windows decoder"]),
    "maesil, EVA blocks": partial(ours, bf16=False, **OPTIONS["EVA blocks"]),
}
"""Counts in fp32, where attention is one operator that the counter knows."""


def _counted(name: str, setting: Setting) -> Row:
    """FLOPs of a step by PyTorch's counter, on tensors that have shapes but no data."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from maesil.comparison.measure import ATTENTION_ON_CPU

    with FakeTensorMode(), FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as counter:
        COUNTED[name](replace(setting, device="cpu", compile=False))()
    more = {"counted_gflop": counter.get_total_flops() / 1e9}
    flops = model_flops(name, setting)
    if flops:
        more |= {"formula_gflop": flops / 1e9, "formula_to_counted": flops / counter.get_total_flops()}
    return Row("model FLOPs of a step", name, more=more)


# --- growth with tokens -----------------------------------------------------------------------------------------------


def _tokens(setting: Setting, options: argparse.Namespace) -> list[Row]:
    """Times the method and the fast recipe in bf16, by patch and superpatch, with each size in a fresh process."""
    usual = "16/8,32/8,32/4" if options.size == "tiny" else "64/16,128/16,64/8,128/8,192/8,64/4"
    sizes = [[int(part) for part in size.split("/")] for size in (options.sizes or usual).split(",")]
    return [_grown(name, setting, edge, patch) for name in GROWING for edge, patch in sizes]


GROWING = ("maesil, bf16", "maesil, bf16, cross decoder, a quarter rebuilt")


def _grown(name: str, setting: Setting, edge: int, patch: int) -> Row:
    model = replace(setting.model, superpatch=(edge, edge, edge), patch=(patch, patch, patch))
    setting = replace(setting, model=model)
    grown = apart(turn, name, setting).value
    flops, tokens = model_flops(name, setting) or 0.0, model.grid.tokens
    more = {
        "tokens": tokens,
        "us_per_token": 1e6 * grown.seconds / tokens / setting.batch,
        "mflop_per_token": flops / tokens / setting.batch / 1e6,
        "gflop_per_s": flops / grown.seconds / 1e9,
    }
    return Row(
        f"growth: {name}", f"{edge}^3 in patches of {patch}^3", grown.seconds, peak_gib=grown.peak_gib, more=more
    )


def plot_growth(report: Report, path: Path) -> None:
    """Plots seconds and peak memory against tokens, one line per contender, on logarithmic axes."""
    figure, (left, right) = _panels(2)
    for group in dict.fromkeys(row.group for row in report.rows):
        rows = sorted((row for row in report.rows if row.group == group), key=lambda row: row.more["tokens"])
        tokens = [row.more["tokens"] for row in rows]
        left.loglog(tokens, [row.seconds for row in rows], "o-", label=group.removeprefix("growth: "))
        right.loglog(tokens, [row.peak_gib for row in rows], "o-")
    left.set(xlabel="tokens of a superpatch", ylabel="seconds per step")
    right.set(xlabel="tokens of a superpatch", ylabel="peak GiB of the process")
    left.legend(fontsize=8)
    _save(figure, path)


def _panels(count: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, count, figsize=(10, 4))


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


# --- batches ----------------------------------------------------------------------------------------------------------

SWEPT = ("maesil, bf16", "maesil, bf16, recompute", "maesil, bf16, cross decoder, a quarter rebuilt")


def _batches(setting: Setting, names: list[str], batches: list[int], rounds: int) -> tuple[list[Row], Limit]:
    """Times superpatches per second by batch, with the share of the matrix product in the same turns."""
    product = _product(setting.device, bf16=True)
    rows, rates = [], []
    for name in (name for name in names if name in SWEPT):
        for compiled in COMPILED:
            group = f"{name}, {'compiled' if compiled else 'not compiled'}"
            for batch in batches:
                row, rate = _batch(group, name, replace(setting, batch=batch, compile=compiled), product, rounds)
                rows.append(row)
                rates += [rate] if rate else []
                if not rate:
                    break
    best = Limit(product.name, max(rates, default=0.0), "GFLOP/s")
    return rows, best


def _batch(group: str, name: str, setting: Setting, product: Contender, rounds: int) -> tuple[Row, float | None]:
    """Returns a row and the rate of the matrix product in the same turns; None if the batch did not run."""
    on_gpu = setting.device == "cuda"
    torch.compiler.reset()
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        step = CONTENDERS[name](setting)
        timings = race([Contender(name, step, setting.batch), product], rounds, warmup=2)
    except torch.OutOfMemoryError:
        return Row(group, f"batch {setting.batch}", note="out of memory"), None
    except Exception as error:  # a missing compiler also gets a row
        words = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}" if str(error) else type(error).__name__
        return Row(group, f"batch {setting.batch}", note=f"does not run: {words}"), None
    timing, limit = timings[name], timings[product.name].rate / 1e9
    flops = model_flops(name, setting) or 0.0
    return Row(
        group,
        f"batch {setting.batch}",
        timing.median_s,
        timing.spread,
        peak_gib=torch.cuda.max_memory_allocated() / GIB if on_gpu else None,
        share_of_limit=flops / timing.median_s / 1e9 / limit,
        limit=product.name,
        more={"superpatches_per_s": timing.rate, "tflop_per_s": flops / timing.median_s / 1e12},
    ), limit


def plot_batches(report: Report, path: Path) -> None:
    """Plots superpatches per second and share of the limit against the batch."""
    figure, (left, right) = _panels(2)
    for group in dict.fromkeys(row.group for row in report.rows):
        rows = [row for row in report.rows if row.group == group and row.seconds]
        batches = [int(row.name.split()[1]) for row in rows]
        left.plot(batches, [row.more["superpatches_per_s"] for row in rows], "o-", label=group)
        right.plot(batches, [row.share_of_limit for row in rows], "o-")
    left.set(xlabel="batch", ylabel="superpatches/s", xscale="log")
    right.set(xlabel="batch", ylabel="share of the matrix product's rate", xscale="log")
    left.legend(fontsize=7)
    _save(figure, path)


# --- profile ----------------------------------------------------------------------------------------------------------


def _profiles(setting: Setting, names: list[str]) -> list[Row]:
    return [row for name in names if name in _PROFILED for row in _profile(name, setting)]


_PROFILED = ("maesil, fp32", "maesil, bf16", "maesil, bf16, cross decoder, a quarter rebuilt")


def _profile(name: str, setting: Setting, shown: int = 12) -> list[Row]:
    """Lists the operators whose own time in a step is the longest."""
    from torch.profiler import ProfilerActivity, profile

    step = CONTENDERS[name](setting)
    step()
    on_gpu = setting.device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
        step()
    spent: dict[str, float] = {}
    for event in profiled.key_averages():
        spent[event.key] = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
    total = sum(spent.values())
    del step
    gc.collect()
    largest = sorted(spent, key=lambda key: -spent[key])[:shown]
    return [Row(f"profile: {name}", key, spent[key], more={"share_of_step": spent[key] / total}) for key in largest]


def plot_profile(report: Report, path: Path) -> None:
    """Draws the step of each contender as a bar of its largest operators in seconds."""
    figure, axes = _panels(1)
    groups = list(dict.fromkeys(row.group for row in report.rows))
    ends = dict.fromkeys(groups, 0.0)
    for operator in list(dict.fromkeys(row.name for row in report.rows if row.more["share_of_step"] > 0.02)):
        spent = {row.group: row.seconds or 0.0 for row in report.rows if row.name == operator}
        values = [spent.get(group, 0.0) for group in groups]
        axes.barh(
            [group.removeprefix("profile: ") for group in groups], values, left=list(ends.values()), label=operator
        )
        ends = {group: ends[group] + value for group, value in zip(groups, values, strict=True)}
    axes.invert_yaxis()
    axes.set(xlabel="seconds of a step, by operator")
    axes.legend(fontsize=7)
    _save(figure, path)
