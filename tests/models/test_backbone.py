from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from backbones import CONFIG, EVA, random_volume, small_backbone
from maesil.ct.window import Window
from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models import MAEConfig, MaskedAutoencoder
from maesil.models.backbone import backbone_of, resized_positions, token_groups
from maesil.models.transformer import sincos_positions

either_block = pytest.mark.parametrize("config", [CONFIG, EVA], ids=["vit", "eva"])


@either_block
@torch.no_grad()
def test_tokens__equal_those_of_the_pretrained_encoder(config: MAEConfig) -> None:
    model = MaskedAutoencoder(config, DualMasking()).eval()
    backbone = backbone_of(model.encoder, config, low_hu=-1000.0, high_hu=1000.0)
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


@either_block
@torch.no_grad()
def test_features__of_groups_are_those_of_pre_training(config: MAEConfig) -> None:
    """Each group is encoded as visible tokens are: they see each other, and nothing else."""
    model = MaskedAutoencoder(config, DualMasking()).eval()
    backbone = backbone_of(model.encoder, config, low_hu=-1000.0, high_hu=1000.0)
    volume = random_volume(backbone)
    groups = token_groups(config.grid, 2, 2)
    together, last = (each.flatten(2).mT for each in backbone.features(volume, (0, 3), groups))
    patches = model.grid.patchify(model._normalize(volume))
    for group in groups:
        alone = model.encoder(patches, visible=group.expand(2, -1))
        torch.testing.assert_close(last[:, group], alone)
    assert not torch.allclose(last, backbone.tokens(volume), atol=1e-3)
    torch.testing.assert_close(together, backbone.features(volume, (0,))[0].flatten(2).mT)


def test_token_groups__are_what_a_dual_mask_leaves_visible() -> None:
    grid = PatchGrid((32, 32, 48), (8, 8, 8))  # 4 planes of 24 patches
    groups = token_groups(grid, 2, 2)
    assert groups.flatten().sort().values.tolist() == list(range(96)), "each token is in one group"
    planes = [sorted((group // 24).tolist()) for group in groups]
    assert planes == [[0] * 12 + [1] * 12] * 2 + [[2] * 12 + [3] * 12] * 2, "half of a plane, in half of the planes"
    first, second = (set((groups[0][half] % 24).tolist()) for half in (slice(0, 12), slice(12, 24)))
    assert first != second, "drawn for each plane"
    assert torch.equal(groups, token_groups(grid, 2, 2))
    assert token_groups(grid, 1, 1).shape == (1, 96)
    with pytest.raises(ConfigError, match="4 planes of 24 patches cannot be divided into 3 blocks"):
        token_groups(grid, 3, 2)


@torch.no_grad()
@either_block
@pytest.mark.parametrize("shape", [(8, 8, 8), (64, 16, 24), (40, 56, 8)])
def test_forward__any_multiple_of_the_patch(shape: tuple[int, int, int], config: MAEConfig) -> None:
    features = small_backbone(config)(torch.rand(1, 1, *shape))
    assert features.shape == (1, 48, *(size // 8 for size in shape))
    assert features.isfinite().all()


def test_forward__refuses_other_sizes() -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        small_backbone()(torch.rand(1, 1, 32, 16, 20))


def test_forward__says_which_axes_it_needs() -> None:
    """In a process of its own: the type checks of this one would be first."""
    script = (
        "import torch; from maesil.errors import ConfigError; from maesil.models.backbone import Backbone\n"
        "from maesil.models.mae import MAEConfig\n"
        "backbone = Backbone(MAEConfig(superpatch=(16, 16, 16), encoder_width=24, encoder_depth=1, encoder_heads=2))\n"
        "for shape in ((16, 16, 16), (1, 16, 16, 16), (1, 2, 16, 16, 16)):\n"
        "    for call in (backbone, backbone.tokens):\n"
        "        try:\n            call(torch.zeros(shape))\n"
        "        except ConfigError as error:\n            print(error.what)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("the encoder needs a tensor (batch, 1, d, h, w), not one of shape (") for line in lines)


def test_from_hu__refuses_an_array() -> None:
    with pytest.raises(ConfigError, match="from_hu needs a tensor, not ndarray"):
        small_backbone().from_hu(np.zeros((16, 16, 16), dtype=np.int16))


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
