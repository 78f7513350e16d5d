from __future__ import annotations

from typing import Literal

import pytest
import torch

from backbones import small_backbone, with_patch
from maesil.errors import ConfigError
from maesil.tasks.segmentation.config import completed
from maesil.tasks.segmentation.network import (
    SegmentationConfig,
    Segmenter,
    layer_of,
    levels_of,
    marginal_logits,
    stage_strides,
)

PATCHES = [(8, 8, 8), (16, 16, 16), (4, 8, 8), (2, 2, 2), (1, 8, 8)]


@pytest.mark.parametrize("patch", PATCHES)
def test_stage_strides__multiply_to_the_patch(patch: tuple[int, int, int]) -> None:
    strides = stage_strides(patch)
    assert tuple(torch.tensor(strides).prod(dim=0).tolist()) == patch
    assert all(max(stride) == 2 for stride in strides)


@pytest.mark.parametrize("patch", [(6, 8, 8), (1, 1, 1)])
def test_stage_strides__refuses_what_is_no_power_of_two(patch: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="not a power of two"):
        stage_strides(patch)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize(("mode", "resolution"), [("full", "full"), ("full", "half"), ("linear", "full")])
def test_segmenter__scores_per_voxel(patch: tuple[int, int, int], mode: str, resolution: str) -> None:
    backbone = small_backbone(with_patch(patch, (16, 16, 16)))
    if resolution == "half" and max(patch) == 2:
        with pytest.raises(ConfigError, match="no stage at half"):
            Segmenter(backbone, 2, SegmentationConfig(resolution="half"))
        return
    model = Segmenter(backbone, 2, SegmentationConfig(mode=mode, features=4, resolution=resolution))
    volume = torch.rand(2, 1, 16, 16, 16)
    assert model(volume).shape == (2, 3, 16, 16, 16)
    loss = model.loss(volume, torch.randint(0, 3, (2, 1, 16, 16, 16)))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("resolution", ["full", "half"])
def test_unet__is_trained_without_the_encoder(resolution: Literal["full", "half"]) -> None:
    backbone = small_backbone(with_patch((8, 8, 8), (16, 16, 16)))
    backbone.features = None  # type: ignore[assignment]  # nobody asks for them
    model = Segmenter(backbone, 2, SegmentationConfig(mode="unet", features=4, resolution=resolution)).train()
    volume = torch.rand(2, 1, 16, 16, 16)
    assert model(volume).shape == (2, 3, 16, 16, 16)
    model.loss(volume, torch.randint(0, 3, (2, 1, 16, 16, 16))).backward()
    assert all((p.grad is not None) is name.startswith("decoder.") for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("superpatch", "shrink", "levels"),
    [((128,) * 3, 1, 5), ((64,) * 3, 2, 4), ((64, 64, 16), 2, 2), ((16,) * 3, 1, 3), ((8,) * 3, 1, 2)],
)
def test_levels_of__the_coarsest_has_voxels(superpatch: tuple[int, int, int], shrink: int, levels: int) -> None:
    assert levels_of(superpatch, shrink) == levels
    with pytest.raises(ConfigError, match="4x64x64 are not multiples of 4 from 16 on"):
        levels_of((4, 64, 64), 2)
    with pytest.raises(ConfigError, match="15x64x64 are not multiples of 2 from 8 on"):
        levels_of((15, 64, 64), 1)


@pytest.mark.parametrize("mode", ["frozen", "linear"])
def test_segmenter__a_frozen_encoder_is_not_trained(mode: str) -> None:
    model = Segmenter(small_backbone(), 1, SegmentationConfig(mode=mode, features=4)).train()
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert not model.backbone.training
    assert model.decoder.training


def test_segmenter__axes_of_scores_are_those_of_the_volume() -> None:
    """An impulse in the image moves scores around it and nowhere far away: no axis is swapped on the way."""
    torch.manual_seed(0)
    config = with_patch((8, 8, 8), (32, 16, 48))
    backbone = small_backbone(config)
    for block in backbone.encoder.blocks:
        for layer in (block.attention.out, block.mlp[2]):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    model = Segmenter(backbone, 1, SegmentationConfig(mode="linear")).eval()
    volume = torch.zeros(1, 1, 32, 16, 48)
    with torch.no_grad():
        still = model(volume)
        volume[0, 0, 28, 4, 12] = 1.0
        change = (model(volume) - still).abs().amax(dim=1)[0]
    place = [int(index) for index in torch.unravel_index(change.argmax(), change.shape)]
    assert all(abs(at - wanted) < 8 for at, wanted in zip(place, (28, 4, 12), strict=True))


def test_parameter_scales__the_deeper_the_slower() -> None:
    model = Segmenter(small_backbone(), 1, SegmentationConfig(features=4, layer_decay=0.5))
    scales = model.parameter_scales()
    assert scales["backbone.encoder.embed.weight"] == 0.5**4
    assert scales["backbone.encoder.blocks.0.norm1.weight"] == 0.5**3
    assert scales["backbone.encoder.blocks.2.norm1.weight"] == 0.5
    assert scales["backbone.encoder.norm.weight"] == 1.0
    assert all(scale == 1.0 for name, scale in scales.items() if name.startswith("decoder."))
    assert layer_of("decoder.out.conv.conv.weight", 3) == 4


def test_config__refuses_what_is_no_share() -> None:
    with pytest.raises(ConfigError, match="shares"):
        SegmentationConfig(layer_decay=1.5)


def test_parameter_scales__a_network_does_not_know_where_its_weights_are_from() -> None:
    with pytest.raises(ConfigError, match="layer_decay is None"):
        Segmenter(small_backbone(), 1, SegmentationConfig(features=4)).parameter_scales()


def test_feature_norm__the_decoder_sees_channels_of_one_scale() -> None:
    """Pre-training spreads the scales of channels; multiplying the tokens by 100 changes nothing."""
    torch.manual_seed(0)
    volume = torch.rand(2, 1, 16, 16, 16)
    model = Segmenter(small_backbone(), 1, SegmentationConfig(features=4)).train()
    plain = Segmenter(small_backbone(), 1, SegmentationConfig(features=4, feature_norm="none")).train()
    features = model.backbone.features
    for network, changes in ((model, False), (plain, True)):
        before = network(volume)
        network.backbone.features = lambda *given: [100.0 * one for one in features(*given)]  # type: ignore[method-assign]
        assert torch.allclose(network(volume), before, atol=1e-2) is not changes


def test_completed__runs_without_the_setting_had_no_norm() -> None:
    assert completed({"model": {"mode": "full"}})["model"] == {"feature_norm": "none", "mode": "full"}
    assert completed({"model": {"feature_norm": "batch"}})["model"] == {"feature_norm": "batch"}


def test_loss__unmarked_structures_may_be_anywhere_in_the_background() -> None:
    """Where a class was not marked, moving probability between it and the background changes no loss."""
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8, 8), torch.randint(0, 2, (2, 1, 8, 8, 8))
    criterion = Segmenter(small_backbone(), 2, SegmentationConfig(features=4)).criterion
    marked = [(True, True), (True, False)]

    merged = marginal_logits(logits, marked).softmax(dim=1)
    chances = logits.softmax(dim=1)
    assert torch.allclose(merged[0], chances[0])
    assert torch.allclose(merged[1, 0], chances[1, 0] + chances[1, 2], atol=1e-6)
    assert torch.equal(merged[1, 2], torch.zeros(8, 8, 8))

    swapped = logits.clone()
    swapped[1] = logits[1, [2, 1, 0]]
    assert criterion(marginal_logits(swapped, marked), labels) == pytest.approx(
        float(criterion(marginal_logits(logits, marked), labels)), rel=1e-5
    )
    assert criterion(swapped, labels) != pytest.approx(float(criterion(logits, labels)), rel=1e-3)

    given = logits.clone().requires_grad_()
    criterion(marginal_logits(given, marked), labels).backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    assert given.grad[1, 2].abs().sum() > 0  # it takes its share of the background's error
    assert marginal_logits(logits, [(True, True)] * 2) is logits


def test_loss__of_marked_classes_alone_is_as_before() -> None:
    torch.manual_seed(0)
    model = Segmenter(small_backbone(), 2, SegmentationConfig(features=4)).eval()
    volume, labels = torch.rand(2, 1, 16, 16, 16), torch.randint(0, 3, (2, 1, 16, 16, 16))
    assert torch.equal(model.loss(volume, labels), model.loss(volume, labels, [(True, True)] * 2))
    assert model.loss(volume, labels) != model.loss(volume, labels.clamp(max=1), [(True, False)] * 2)
