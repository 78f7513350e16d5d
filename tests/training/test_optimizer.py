from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Literal

import pytest
import torch

from maesil.masking import DualMasking
from maesil.models.fusion import FusionConfig
from maesil.models.mae import MAEConfig, MaskedAutoencoder
from maesil.training.config import TrainConfig
from maesil.training.muon import muon_step
from maesil.training.optimizer import make_optimizer, make_schedule, parameter_groups, warmup_cosine

TINY = MAEConfig(
    superpatch=(16, 16, 16), encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2, positions="learned",
)  # fmt: skip


def test_parameter_groups__decay_matrices_only() -> None:
    model = MaskedAutoencoder(TINY, DualMasking())
    decayed, free = parameter_groups(model.named_parameters(), 0.05)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed_names = {names[id(p)] for p in decayed["params"]}  # type: ignore[attr-defined]
    free_names = {names[id(p)] for p in free["params"]}  # type: ignore[attr-defined]
    assert decayed_names | free_names == set(names.values())
    assert "encoder.embed.weight" in decayed_names
    assert {"decoder.mask_token", "encoder.positions.table", "encoder.norm.weight", "decoder.head.bias"} <= free_names
    assert all(name.endswith("weight") for name in decayed_names)


def test_warmup_cosine__rises_peaks_and_ends_at_zero() -> None:
    shares = [warmup_cosine(step, 100, 0.1) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == 1.0
    assert shares[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(shares[10:]))
    assert warmup_cosine(55, 100, 0.1) == pytest.approx(0.5)


def test_learning_rate__is_per_256_superpatches_of_the_global_batch() -> None:
    config = TrainConfig(batch=16, accumulate=2, base_lr=1.5e-4)
    assert config.learning_rate(world=8) == pytest.approx(1.5e-4)
    assert TrainConfig(peak_lr=2e-3).learning_rate(world=8) == 2e-3


def test_schedule__sets_the_optimisers_learning_rate() -> None:
    model = MaskedAutoencoder(TINY, DualMasking())
    optimizer = make_optimizer(model, TrainConfig(steps=10, warmup=0.2, peak_lr=1.0), world=1)
    schedule = make_schedule(optimizer, TrainConfig(steps=10, warmup=0.2, peak_lr=1.0))
    seen = []
    for _ in range(10):
        seen.append(optimizer.param_groups[0]["lr"])
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([warmup_cosine(step, 10, 0.2) for step in range(10)])


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_schedule__of_a_last_stage_stops_the_rest_and_then_starts(kind: Literal["adamw", "muon"]) -> None:
    model = MaskedAutoencoder(replace(TINY, fusion=FusionConfig(width=2, share=0.5, peak_lr=0.3)), DualMasking())
    config = TrainConfig(steps=12, warmup=0.2, peak_lr=1.0, optimizer=kind)
    stage = model.last_stage
    optimizer = make_optimizer(model, config, world=1, last=stage)
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters())), "every parameter once"
    assert stage is not None
    assert {id(one) for one in optimizer.param_groups[-1]["params"]} == {id(one) for one in stage.part.parameters()}
    schedule = make_schedule(optimizer, config, stage)
    seen = []
    for _ in range(12):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    first, last = [rates[0] for rates in seen], [rates[-1] for rates in seen]
    assert first == pytest.approx([warmup_cosine(step, 6, 0.2) for step in range(6)] + [0.0] * 6, abs=1e-12)
    assert last == pytest.approx([0.0] * 6 + [0.3 * warmup_cosine(step, 6, 0.2) for step in range(6)])


@pytest.mark.parametrize("at", [4, 9, 12])
def test_schedule__of_a_last_stage_in_a_run_that_became_longer(at: int) -> None:
    """Made longer before the stage, in it, and after its end: both parts move to the longer run's schedules."""
    model = MaskedAutoencoder(replace(TINY, fusion=FusionConfig(width=2, share=0.5, peak_lr=0.3)), DualMasking())
    config = TrainConfig(steps=40, warmup=0.1, peak_lr=1.0)
    optimizer = make_optimizer(model, config, world=1, last=model.last_stage)
    share_of_rest, *_, share_of_stage = make_schedule(optimizer, config, model.last_stage, [(at, 12)]).lr_lambdas

    def of_stage(step: int, steps: int) -> float:
        return 0.0 if step < steps // 2 else warmup_cosine(step - steps // 2, steps // 2, 0.1)

    for step in range(at + 1):
        assert share_of_rest(step) == warmup_cosine(step, 6, 0.1)
        assert share_of_stage(step) == of_stage(step, 12)
    for step in range(at + 4, 40):
        assert share_of_rest(step) == warmup_cosine(step, 20, 0.1)
        assert share_of_stage(step) == of_stage(step, 40)
    for share in (share_of_rest, share_of_stage):
        assert max(abs(share(step + 1) - share(step)) for step in range(at, at + 4)) < 0.4, "without a jump"


def test_muon__steps_every_parameter_and_resumes() -> None:
    config = TrainConfig(steps=10, optimizer="muon", peak_lr=1e-2)

    def train(model: MaskedAutoencoder, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            for index, parameter in enumerate(model.parameters()):
                parameter.grad = torch.full_like(parameter, 0.1) * torch.sin(torch.tensor(step + index + 1.0))
            optimizer.step()

    torch.manual_seed(0)
    model = MaskedAutoencoder(TINY, DualMasking())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, config, world=1)
    train(model, optimizer, range(3))
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []
    other = MaskedAutoencoder(TINY, DualMasking())
    other.load_state_dict(model.state_dict())
    resumed = make_optimizer(other, config, world=1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, range(3, 6))
    train(other, resumed, range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_muon__follows_the_schedule() -> None:
    model = MaskedAutoencoder(TINY, DualMasking())
    config = TrainConfig(steps=10, warmup=0.5, optimizer="muon", peak_lr=1.0)
    optimizer = make_optimizer(model, config, world=1)
    make_schedule(optimizer, config)
    rates = {group["lr"] for group in [*optimizer.muon.param_groups, *optimizer.adamw.param_groups]}  # type: ignore[attr-defined]
    assert rates == {warmup_cosine(0, 10, 0.5)}


def _stepped(dtype: torch.dtype | None) -> list[torch.Tensor]:
    """Matrices of three shapes after three steps of Muon: by `muon_step` in `dtype`, or PyTorch's own where None."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(12, 48), (48, 12), (16, 16)]
    matrices = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    muon = torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for matrix in matrices:
            matrix.grad = torch.randn(matrix.shape, generator=generator)
        muon.step() if dtype is None else muon_step(muon, dtype)
    return [matrix.detach() for matrix in matrices]


def test_muon_step__in_bfloat16_is_pytorchs() -> None:
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(_stepped(torch.bfloat16), _stepped(None), strict=True))


def test_muon_step__in_float32_differs_by_rounding_alone() -> None:
    for exact, rounded in zip(_stepped(torch.float32), _stepped(None), strict=True):
        torch.testing.assert_close(exact, rounded, rtol=0, atol=1e-3)


@pytest.mark.parametrize("native", [True, False])
def test_muon__multiplies_in_bfloat16_only_where_the_cpu_can(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maesil.training.muon.cpu_multiplies_bf16", lambda: native)
    seen: list[torch.dtype] = []
    monkeypatch.setattr("maesil.training.muon.muon_step", lambda muon, dtype: seen.append(dtype))
    optimizer = make_optimizer(MaskedAutoencoder(TINY, DualMasking()), TrainConfig(optimizer="muon"), world=1)
    optimizer.step()
    assert seen == ([] if native else [torch.float32])
