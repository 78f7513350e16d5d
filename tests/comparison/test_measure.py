"""FLOPs against formulas; costs from logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maesil.comparison.measure import count_flops, measure, seconds_per_step
from maesil.config import RunConfig
from maesil.masking import DualMasking
from maesil.models import MAEConfig, make_model
from maesil.models.ae import AE, AEConfig
from maesil.models.cost import mae_flops
from maesil.presets import demo
from maesil.presets.baselines import baseline


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decoder_depth": 3},
        {"decoder": "cross", "rebuilt_share": 0.25},
        {"decoder": "axial", "decoder_depth": 3},
        {"decoder": "windows", "decoder_depth": 2, "superpatch": (32, 64, 64)},
        {"visible_weight": 0.5},
        {"head": "overlap", "visible_head": True},
        {"encoder_block": "eva", "mlp_ratio": 2.5},
    ],
)
def test_count_flops__of_a_masked_autoencoder_equals_the_formula(options: dict[str, Any]) -> None:
    config = MAEConfig(
        encoder_width=24, encoder_depth=2, encoder_heads=2,
        decoder_width=12, **{"decoder_depth": 1, "superpatch": (32, 32, 32), **options}, decoder_heads=2,
    )  # fmt: skip
    visible = DualMasking().visible_count(config.grid)
    assert count_flops(make_model(config, DualMasking())) == mae_flops(config, visible)


@pytest.mark.parametrize("name", ["ae", "vae", "vqvae"])
def test_count_flops__of_an_autoencoder_is_ours_within_a_third(name: str) -> None:
    preset = demo()
    assert isinstance(preset.model, MAEConfig)
    config = baseline(name, preset).model
    counted = count_flops(make_model(config, preset.masking))
    ours = mae_flops(preset.model, preset.masking.visible_count(preset.model.grid))
    assert 0.75 < counted / ours < 1.34


def test_count_flops__changes_nothing() -> None:
    model = AE(AEConfig(superpatch=(16, 16, 16), channels=(4,), latent_channels=2), DualMasking())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert count_flops(model) > 0
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def write_log(run: Path) -> None:
    (run / "logs").mkdir()
    rows = ["step,loss,superpatches_per_s,memory_gib", "2,1.0,4.0,0.5", "4,1.0,8.0,0.75", "4,,,"]
    (run / "logs" / "metrics.csv").write_text("\n".join(rows) + "\n")


def test_measure__the_logged_rate_is_that_of_all_devices(tmp_path: Path, tiny_config: RunConfig) -> None:
    write_log(tmp_path)
    several = replace(tiny_config, efficiency=replace(tiny_config.efficiency, devices=4, nodes=2))
    cost = measure(make_model(tiny_config.model, tiny_config.masking), several, 1e6, tmp_path, 4)
    assert cost.superpatches == 4 * 2 * 8
    assert cost.seconds == pytest.approx(8 * (4 / 4.0 + 4 / 8.0))
    assert seconds_per_step(tmp_path, several) == pytest.approx(2 * 8 / 8.0)


def test_measure__sums_the_log(tmp_path: Path, tiny_config: RunConfig) -> None:
    write_log(tmp_path)
    model = make_model(tiny_config.model, tiny_config.masking)
    cost = measure(model, tiny_config, 1e6, tmp_path, 4)
    assert (cost.steps, cost.superpatches) == (4, 8)
    longer = measure(model, tiny_config, 1e6, tmp_path, 5)
    assert (longer.steps, longer.superpatches, longer.seconds) == (5, 10, pytest.approx(cost.seconds * 5 / 4))
    assert cost.seconds == pytest.approx(4 / 4.0 + 4 / 8.0)
    assert cost.memory_gib == 0.75
    assert cost.compression == 32**3 / (16 * 24)
    assert seconds_per_step(tmp_path, tiny_config) == pytest.approx(2 / 8.0)
