"""The paper's numbers as assertions (§III)."""

from __future__ import annotations

import torch

from maesil.grid import PatchGrid
from maesil.masking import DualMasking
from maesil.models.mae import MAEConfig, MaskedAutoencoder
from maesil.presets import PRESETS
from maesil.tiling import Tiling


def test_paper__a_512_cube_is_64_superpatches_that_do_not_overlap() -> None:
    tiling = Tiling((512, 512, 512))
    assert len(tiling) == 64
    assert tiling.padded_shape == (512, 512, 512)
    assert len(set(tiling.origins())) == 64


def test_paper__a_superpatch_is_4096_tokens_of_8_cubed_voxels() -> None:
    grid = PatchGrid()
    assert grid.shape == (16, 16, 16)
    assert grid.tokens == 4096
    assert grid.voxels_per_patch == 512


def test_paper__preset_masks_75_percent_in_total() -> None:
    config = PRESETS["paper"]()
    assert isinstance(config.masking, DualMasking)
    assert config.masking.axis_ratio == 0.5
    assert config.masking.ratio == 0.75
    assert config.masking.visible_count(config.model.grid) == 1024


def test_paper_union__preset_masks_75_percent_per_plane_and_half_of_the_planes() -> None:
    config = PRESETS["paper_union"]()
    assert isinstance(config.masking, DualMasking)
    assert (config.masking.plane_ratio, config.masking.axis_ratio) == (0.75, 0.5)
    assert config.masking.ratio == 0.875
    assert config.masking.visible_count(config.model.grid) == 512


def test_paper__model_has_the_stated_width_and_vit_b_depth() -> None:
    with torch.device("meta"):
        model = MaskedAutoencoder(MAEConfig(), DualMasking())
    assert model.encoder.embed.out_features == 768
    assert model.encoder.embed.in_features == 512
    assert len(model.encoder.blocks) == 12
    assert len(model.decoder.blocks) == 8
    assert model.decoder.head.out_features == 512
    assert model.encoder.positions.table.shape == (4096, 768)
    assert sum(p.numel() for p in model.encoder.parameters()) == 768 * 512 + 768 + 12 * 7_087_872 + 1536
