"""The fusion starts at the reconstruction, touches masked voxels only, and learns without the rest of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from conftest import TINY_MODEL
from maesil import pipeline
from maesil.comparison.measure import count_flops
from maesil.config import RunConfig
from maesil.ct.window import Window
from maesil.errors import ConfigError
from maesil.evaluation.protocol import Protocol
from maesil.masking import DualMasking
from maesil.metrics.ssim import interior, ssim_map
from maesil.models.cost import mae_flops
from maesil.models.enlarging import enlarged
from maesil.models.fusion import FusionConfig, KrigedFill
from maesil.models.kriging import Kriging
from maesil.models.mae import MAEConfig, MaskedAutoencoder
from maesil.runs.from_weights import initial_of, start_from
from maesil.runs.load import load_run

FUSED = replace(TINY_MODEL, fusion=FusionConfig(width=4))
ON_VOXELS = replace(TINY_MODEL, fusion=FusionConfig(width=4, network="voxels"))
EITHER = pytest.mark.parametrize("config", [FUSED, ON_VOXELS], ids=["cells", "voxels"])


def made(config: MAEConfig = FUSED, *, learnt: bool = False) -> MaskedAutoencoder:
    torch.manual_seed(0)
    model = MaskedAutoencoder(config, DualMasking()).eval()
    torch.manual_seed(1)
    torch.nn.init.normal_(model.decoder.head.weight, std=0.1)
    if learnt and model.fusion is not None:
        last = [part for part in model.fusion.network.modules() if isinstance(part, (nn.Conv3d, nn.ConvTranspose3d))][
            -1
        ]
        nn.init.normal_(last.weight, std=0.5)
    return model


def inputs(model: MaskedAutoencoder) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 1, *model.grid.superpatch, generator=generator), model.draw_mask(2, generator)


@EITHER
def test_fusion__changes_no_initial_weight_of_the_rest(config: MAEConfig) -> None:
    torch.manual_seed(3)
    plain = MaskedAutoencoder(TINY_MODEL, DualMasking()).state_dict()
    torch.manual_seed(3)
    fused = MaskedAutoencoder(config, DualMasking()).state_dict()
    assert all(torch.equal(fused[name], weight) for name, weight in plain.items())
    assert {name.split(".")[0] for name in set(fused) - set(plain)} == {"fusion"}


@EITHER
def test_reconstruct__starts_at_the_network_alone(config: MAEConfig) -> None:
    model = made(config)
    x, mask = inputs(model)
    rows = model.entries("maesil")
    assert list(rows) == ["maesil", "maesil + fusion"]
    alone, fused = (row.reconstruct(x, mask).volume for row in rows.values())
    assert torch.equal(fused, alone)
    assert torch.equal(alone, made(TINY_MODEL).reconstruct(x, mask).volume)


@EITHER
def test_reconstruct__fuses_masked_voxels_only(config: MAEConfig) -> None:
    model = made(config, learnt=True)
    x, mask = inputs(model)
    hidden = model.voxel_mask(mask)
    alone, fused = (row.reconstruct(x, mask).volume for row in model.entries("maesil").values())
    assert torch.equal(fused[~hidden], alone[~hidden])
    assert (fused[hidden] != alone[hidden]).float().mean() > 0.9


@EITHER
def test_forward__of_one_material_leaves_a_constant_reconstruction_alone(config: MAEConfig) -> None:
    model = made(config, learnt=True)
    assert model.fusion is not None
    _, mask = inputs(model)
    constant = torch.full((2, 1, *model.grid.superpatch), 0.7)
    fused = model.fusion(constant, constant, model.voxel_mask(mask))
    assert (fused - constant).abs().max() < 1e-4


@EITHER
def test_last_loss__has_gradients_for_the_fusion_alone(config: MAEConfig) -> None:
    model = made(config, learnt=True)
    loss = model.last_loss(*inputs(model))
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is None for name, gradient in found.items() if not name.startswith("fusion."))
    own = [gradient for name, gradient in found.items() if name.startswith("fusion.")]
    assert all(gradient is not None and 0 < gradient.abs().sum() < float("inf") for gradient in own)
    assert model.last_stage is not None
    assert len(own) == len(list(model.last_stage.part.parameters()))


def test_last_loss__adds_one_minus_ssim_as_evaluate_has_it() -> None:
    plain = made(learnt=True)
    x, mask = inputs(plain)
    like = made(replace(FUSED, fusion=FusionConfig(width=4, ssim_weight=0.5)), learnt=True)
    rebuilt = plain.reconstruct(x, mask)
    shown = torch.where(rebuilt.mask, rebuilt.volume, x).clamp(0, 1)
    maps = [ssim_map(one, other)[::2, ::2, ::2] for one, other in zip(shown[:, 0], x[:, 0], strict=True)]
    counted = [interior(one)[::2, ::2, ::2] for one in rebuilt.mask[:, 0]]
    similarity = torch.cat([one[region] for one, region in zip(maps, counted, strict=True)]).mean()
    expected = plain.last_loss(x, mask) + 0.5 * (1 - similarity)
    torch.testing.assert_close(like.last_loss(x, mask), expected)


@EITHER
def test_loss__does_not_reach_the_fusion(config: MAEConfig) -> None:
    fused, plain = made(config), made(TINY_MODEL)
    x, mask = inputs(fused)
    loss = fused.loss(x, mask)
    assert torch.equal(loss, plain.loss(x, mask))
    loss.backward()
    assert fused.fusion is not None
    assert all(parameter.grad is None for parameter in fused.fusion.parameters())


def test_fill__is_nearly_the_converged_one() -> None:
    config = MAEConfig(superpatch=(64, 64, 64))
    masking, grid = DualMasking(), config.grid
    axes = torch.meshgrid(*(torch.linspace(0, 9, 64) for _ in range(3)), indexing="ij")
    x = (0.5 + 0.2 * (axes[0].sin() * axes[1].cos() + (axes[2] + axes[0]).sin()))[None, None]
    model = Kriging(grid, masking)
    mask = model.draw_mask(1, torch.Generator().manual_seed(2))
    hidden = model.voxel_mask(mask)
    quick = enlarged(KrigedFill(config.patch)(x, hidden), x.shape[2:])
    converged = model.reconstruct(x, mask).volume
    assert (quick - converged)[hidden].square().mean() < 0.01 * x[hidden].var()


def test_enlarged__is_linear_interpolation() -> None:
    cells = torch.rand(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    size = torch.Size((8, 10, 6))
    expected = torch.nn.functional.interpolate(cells, size, mode="trilinear", align_corners=False)
    torch.testing.assert_close(enlarged(cells, size), expected)


def test_first_step__leaves_steps_to_both() -> None:
    stage = made().last_stage
    assert stage is not None
    assert [stage.first_step(steps) for steps in (1, 2, 12, 1000)] == [1, 1, 10, 850]


def test_first_step__of_a_share_of_all_steps_is_the_first_one() -> None:
    stage = made(replace(FUSED, fusion=FusionConfig(width=4, share=1.0))).last_stage
    assert stage is not None
    assert [stage.first_step(steps) for steps in (1, 1000)] == [0, 0]


def test_reconstruct__a_fusion_on_voxels_adds_detail_within_cells() -> None:
    changes = {}
    for config in (FUSED, ON_VOXELS):
        model = made(config, learnt=True)
        x, mask = inputs(model)
        hidden = model.voxel_mask(mask)
        alone, fused = (row.reconstruct(x, mask).volume for row in model.entries("maesil").values())
        cells = nn.functional.avg_pool3d(change := fused - alone, 2)
        within = change - cells.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        changes[config.fusion.network] = float(within[hidden].std() / change[hidden].std())
    assert changes["voxels"] > 2 * changes["cells"]


def test_config__refuses_a_superpatch_that_a_fusion_on_voxels_cannot_halve() -> None:
    with pytest.raises(ConfigError, match="halves a superpatch 4 times, which 40x32x32 does not allow"):
        replace(TINY_MODEL, superpatch=(40, 32, 32), fusion=FusionConfig(width=4, network="voxels"))


def test_reconstruct__a_fusion_on_voxels_does_not_read_masked_voxels() -> None:
    model = made(ON_VOXELS, learnt=True)
    x, mask = inputs(model)
    other = torch.where(model.voxel_mask(mask), 1 - x, x)
    assert torch.equal(model.reconstruct(x, mask).volume, model.reconstruct(other, mask).volume)


def test_fusion_config__refuses_a_network_without_a_width() -> None:
    with pytest.raises(ConfigError, match="there is no fusion: its width is 0"):
        FusionConfig(network="voxels")


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_fusion_config__refuses_a_share_that_leaves_nothing(share: float) -> None:
    with pytest.raises((ConfigError, ValueError), match="share"):
        FusionConfig(width=4, share=share)


def test_fusion_config__refuses_to_train_no_fusion_alone() -> None:
    with pytest.raises(ConfigError, match="trains a fusion alone, and there is none"):
        FusionConfig(share=1.0)


def test_config__refuses_ssim_of_superpatches_smaller_than_its_window() -> None:
    with pytest.raises(ConfigError, match="windows of 11 voxels, and the superpatch is 8x32x32"):
        replace(TINY_MODEL, superpatch=(8, 32, 32), fusion=FusionConfig(width=4, ssim_weight=1.0))


@pytest.mark.parametrize("network", ["cells", "voxels"])
def test_mae_flops__of_a_run_with_a_fusion_are_pytorchs(network: Literal["cells", "voxels"]) -> None:
    config = replace(FUSED, fusion=FusionConfig(width=4, network=network, share=0.25))
    model = made(config)
    visible = model.masking.visible_count(model.grid)
    assert count_flops(model) == pytest.approx(mae_flops(config, visible), rel=0.02)
    assert mae_flops(config, visible) != mae_flops(TINY_MODEL, visible)


def test_pretrain__trains_a_fusion_on_voxels_and_loads_it(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    model = replace(ON_VOXELS, fusion=FusionConfig(width=4, network="voxels", share=0.5))
    pipeline.pretrain(replace(tiny_config, model=model), run)
    trained = load_run(run, device="cpu").model
    assert isinstance(trained, MaskedAutoencoder)
    x, mask = inputs(trained)
    alone, fused = (row.reconstruct(x, mask).volume for row in trained.entries("maesil").values())
    assert not torch.equal(fused, alone)


def test_pretrain__trains_the_network_and_then_its_fusion(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fused = replace(tiny_config, model=replace(FUSED, fusion=FusionConfig(width=4, share=0.5)))
    pipeline.pretrain(fused, run)
    trained = load_file(run / "checkpoints" / "last" / "model.safetensors")
    assert trained["fusion.network.head.weight"].any()

    short = replace(tiny_config, train=replace(tiny_config.train, steps=6))
    pipeline.pretrain(short, tmp_path / "short")
    alone = load_file(tmp_path / "short" / "checkpoints" / "last" / "model.safetensors")
    assert all(torch.equal(trained[name], weight) for name, weight in alone.items()), "frozen in the last stage"

    again = replace(
        short,
        model=replace(FUSED, fusion=FusionConfig(width=8, share=1.0)),
        init=str(tmp_path / "short"),
    )
    pipeline.pretrain(again, tmp_path / "again")
    added = load_file(tmp_path / "again" / "checkpoints" / "last" / "model.safetensors")
    assert all(torch.equal(added[name], weight) for name, weight in alone.items()), "never trained with a share of 1"
    assert added["fusion.network.head.weight"].any()

    scored = pipeline.evaluate(run, protocol=Protocol(lpips=None, mask_draws=1))
    assert {"maesil", "maesil + fusion"} < {row.model for row in scored.scores}
    assert "maesil + fusion is" in scored.table
    assert "maesil + fusion: constant volumes" in scored.table
    assert pipeline.report(run).is_file()
    exported = pipeline.export(run, "safetensors", tmp_path / "encoder")
    assert not any("fusion" in name for name in load_file(Path(exported) / "model.safetensors"))


def test_start_from__leaves_a_fusion_of_another_width_at_its_start(tiny_config: RunConfig, tmp_path: Path) -> None:
    """A few of its tensors fit: alone, they would be worth nothing."""

    def config(width: int) -> RunConfig:
        return replace(tiny_config, model=replace(ON_VOXELS, fusion=FusionConfig(width=width, network="voxels")))

    pipeline.pretrain(config(4), tmp_path / "run")
    fresh = MaskedAutoencoder(config(8).model, DualMasking())  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in fresh.state_dict().items() if name.startswith("fusion.")}
    started = start_from(fresh, initial_of(str(tmp_path / "run")), "run")
    assert started.loaded.startswith("all weights but the fusion's")
    assert all(torch.equal(fresh.state_dict()[name], value) for name, value in before.items())


def test_pretrain__refuses_a_fusion_on_a_network_with_random_weights(tiny_config: RunConfig, tmp_path: Path) -> None:
    model = replace(FUSED, fusion=FusionConfig(width=4, share=1.0))
    alone = replace(tiny_config, model=model)
    with pytest.raises(
        ConfigError, match="the fusion alone would be trained, and weights of the network below it are random"
    ) as none:
        pipeline.pretrain(alone, tmp_path / "alone")
    assert "--init RUN" in str(none.value)
    pipeline.pretrain(tiny_config, tmp_path / "run")
    deeper = replace(model, decoder_depth=TINY_MODEL.decoder_depth + 1)
    with pytest.raises(ConfigError, match="below it are random"):
        pipeline.pretrain(replace(alone, model=deeper, init=str(tmp_path / "run")), tmp_path / "deeper")


def test_pretrain__refuses_a_fusion_on_a_network_of_other_settings(tiny_config: RunConfig, tmp_path: Path) -> None:
    """Their weights have the same shapes, and would rebuild nonsense, which nothing trains away."""
    pipeline.pretrain(tiny_config, tmp_path / "run")
    alone = replace(
        tiny_config, model=replace(FUSED, fusion=FusionConfig(width=4, share=1.0)), init=str(tmp_path / "run")
    )
    others = {
        "model.head": replace(alone, model=replace(alone.model, head="overlap")),
        "model.input_std": replace(alone, model=replace(alone.model, input_std=0.5)),
        "data.window.high_hu": replace(alone, data=replace(alone.data, window=Window(high_hu=400.0))),
    }
    for key, other in others.items():
        with pytest.raises(ConfigError, match=rf"trained with other settings: {key}\n"):
            pipeline.pretrain(other, tmp_path / key)
    assert pipeline.pretrain(alone, tmp_path / "alone").status == "finished"
    longer = replace(alone, train=replace(alone.train, steps=alone.train.steps + 2))
    assert pipeline.pretrain(longer, tmp_path / "alone").status == "finished"
    before, after = (
        load_file(tmp_path / name / "checkpoints" / "last" / "model.safetensors") for name in ("run", "alone")
    )
    assert all(torch.equal(after[name], weight) for name, weight in before.items()), "a longer run does not train it"
