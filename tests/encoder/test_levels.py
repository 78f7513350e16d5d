"""Feature maps at six resolutions, and the decoder of kaiko-eva that takes them."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from backbones import CONFIG, small_backbone, small_card, with_patch
from maesil.encoder.levels import FeatureLevels
from maesil.errors import ConfigError
from maesil.export.targets import export

DECODER = Path(sys.prefix) / "interop" / "eva/vision/models/networks/decoders/segmentation/semantic/swin_unetr.py"
SHAPE = (32, 64, 96)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(small_backbone(), small_card(), "safetensors", tmp_path_factory.mktemp("levels") / "out")


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    return torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_feature_levels__have_a_swin_unetr_s_channels_and_sizes(encoder: Path, volume: torch.Tensor) -> None:
    levels = FeatureLevels(encoder, out_indices=6).eval()
    with torch.no_grad():
        maps = levels(volume)
    assert [each.shape[1] for each in maps] == list(levels.channels) == [12, 12, 24, 48, 96, 192]
    assert [tuple(each.shape[2:]) for each in maps] == [
        tuple(size // step for size in SHAPE) for step in (1, 2, 4, 8, 16, 32)
    ]
    with torch.no_grad():
        assert len(FeatureLevels(encoder, out_indices=2)(volume)) == 2
        assert FeatureLevels(encoder)(volume).shape == (1, CONFIG.encoder_width)


def test_feature_levels__keep_every_place(encoder: Path, volume: torch.Tensor) -> None:
    levels = FeatureLevels(encoder, out_indices=6).eval()
    assert levels.depths == (1, 2, 3, 3)
    with torch.no_grad():
        maps = levels(volume)
        early, _, late, _ = levels.encoder.features(volume, levels.depths)
    torch.testing.assert_close(maps[0][:, :1], volume)
    assert not maps[0][:, 1:].any()
    torch.testing.assert_close(maps[1][0, 5, 3, 4, 6], volume[0, 0, 3 * 2 + 1, 4 * 2, 6 * 2 + 1])
    torch.testing.assert_close(maps[2][0, 0, 2 * 1 + 1, 2 * 3, 2 * 5 + 1], early[0, 5, 1, 3, 5])
    torch.testing.assert_close(maps[3], late)
    torch.testing.assert_close(maps[4][0, :48, 1, 2, 3], late[0, :, 2:4, 4:6, 6:8].mean(dim=(1, 2, 3)))
    torch.testing.assert_close(maps[5][0, :48, 0, 1, 2], early[0, :, 0:4, 4:8, 8:12].mean(dim=(1, 2, 3)))


def test_feature_levels__what_does_not_fit_is_refused(encoder: Path, volume: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edges must be multiples of 32"):
        FeatureLevels(encoder, out_indices=6)(volume[..., :48])
    with pytest.raises(ConfigError, match="there are 6 feature maps"):
        FeatureLevels(encoder, out_indices=7)
    config = with_patch((4, 8, 8), (32, 32, 32))
    other = export(small_backbone(config), small_card(config), "safetensors", tmp_path / "other")
    with pytest.raises(ConfigError, match=r"patches of 8\^3"):
        FeatureLevels(other)


@pytest.mark.interop
@pytest.mark.parametrize("project_dims", [None, [8, 8, 8, 16, 16, 32]])
def test_feature_levels__fit_the_decoder_of_kaiko_eva(
    encoder: Path, volume: torch.Tensor, project_dims: list[int] | None
) -> None:
    """The decoder is kaiko-eva's own; its file is loaded alone, as the package asks for much that is not needed."""
    if not DECODER.is_file():
        pytest.skip("kaiko-eva is not installed in the environment's folder interop")
    spec = spec_from_file_location("eva_swin_unetr", DECODER)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    levels = FeatureLevels(encoder, out_indices=6).eval().requires_grad_(False)
    decoder = module.SwinUNETRDecoderWithProjection(5, feature_size=levels.feature_size, project_dims=project_dims)
    scores = decoder(levels(volume))
    assert scores.shape == (1, 5, *SHAPE)
    scores.square().mean().backward()
    assert all(weight.grad is not None for weight in decoder.parameters() if weight.numel() > 5)
    assert all(weight.grad is None for weight in levels.parameters())
