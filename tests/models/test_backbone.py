from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from backbones import CONFIG, random_volume, small_backbone
from maesil.ct.window import Window
from maesil.errors import ConfigError
from maesil.masking import DualMasking
from maesil.models import MaskedAutoencoder
from maesil.models.backbone import backbone_of, resized_positions
from maesil.models.transformer import sincos_positions


@torch.no_grad()
def test_tokens__equal_those_of_the_pretrained_encoder() -> None:
    model = MaskedAutoencoder(CONFIG, DualMasking()).eval()
    backbone = backbone_of(model.encoder, CONFIG, low_hu=-1000.0, high_hu=1000.0)
    volume = random_volume(backbone)
    wanted = model.encoder(model.grid.patchify(model._normalize(volume)))
    torch.testing.assert_close(backbone.tokens(volume), wanted)


@torch.no_grad()
def test_features__at_chosen_depths() -> None:
    backbone = small_backbone()
    volume = random_volume(backbone)
    first, last = backbone.features(volume, (0, 3))
    assert first.shape == last.shape == (2, 48, 4, 2, 3)
    torch.testing.assert_close(last, backbone(volume))
    assert not torch.allclose(first, last)
    with pytest.raises(ConfigError, match="no depth 4"):
        backbone.features(volume, (4,))


@torch.no_grad()
@pytest.mark.parametrize("shape", [(8, 8, 8), (64, 16, 24), (40, 56, 8)])
def test_forward__any_multiple_of_the_patch(shape: tuple[int, int, int]) -> None:
    features = small_backbone()(torch.rand(1, 1, *shape))
    assert features.shape == (1, 48, *(size // 8 for size in shape))
    assert features.isfinite().all()


def test_forward__refuses_other_sizes() -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        small_backbone()(torch.rand(1, 1, 32, 16, 20))


def test_from_hu__is_the_window() -> None:
    hu = torch.tensor([-2000, -1000, 0, 40, 1000, 3000])
    window = Window(low_hu=-1000.0, high_hu=1000.0)
    torch.testing.assert_close(small_backbone().from_hu(hu), window.normalize(hu.float()))


def test_resized_positions__keeps_the_axes_and_is_the_identity_on_its_own_grid() -> None:
    table = sincos_positions((4, 2, 3), 48, (4.0, 40.0))
    assert resized_positions(table, (4, 2, 3), (4, 2, 3)) is table
    ramp = torch.arange(4.0)[:, None, None].expand(4, 2, 3).reshape(-1, 1)
    finer = resized_positions(ramp, (4, 2, 3), (8, 4, 6)).view(8, 4, 6)
    assert (finer == finer[:, :1, :1]).all(), "what varies along S does not begin to vary along P or L"
    assert (finer[1:, 0, 0] >= finer[:-1, 0, 0]).all()


@torch.no_grad()
def test_learned_positions__travel_with_the_weights() -> None:
    config = replace(CONFIG, positions="learned")
    model = MaskedAutoencoder(config, DualMasking())
    torch.nn.init.normal_(model.encoder.positions.table)
    backbone = backbone_of(model.encoder, config, low_hu=0.0, high_hu=1.0)
    torch.testing.assert_close(backbone.positions((4, 2, 3)), model.encoder.positions.table)
