"""The presets: what each reproduces, what it costs, and its settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maesil.config import RunConfig
from maesil.masking import DualMasking
from maesil.models.fusion import FusionConfig
from maesil.models.mae import MAEConfig
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.training.config import MonitorConfig, TrainConfig

GRID_WAVELENGTHS = (4.0, 120.0)
"""Shortest and longest wavelength of the position encoding, in patches; docs/lab.md has the gain over ViT's."""


SEAMLESS: dict[str, Any] = {
    "head": "overlap",
    "visible_head": True,
    "fusion": FusionConfig(width=8, ssim_weight=1.0),
}
"""What our presets add to the paper's network, so that reconstructions have contrast and no seams; docs/lab.md has the
gain."""

ON_VOXELS = FusionConfig(width=32, network="voxels", share=0.42, peak_lr=1.5e-3, ssim_weight=1.0)
"""The fusion on voxels as it was tried with `demo`; results/voxel_fusion has the gain and the cost."""


def paper() -> RunConfig:
    """The paper's method: 128^3 superpatches, 4,096 tokens of 768, dual masking of 75 % in total.

    Superpatches come from a grid that partitions a scan, as in §III-A: a 512^3 volume has 64 of them, each drawn once
    per pass, without overlap. Our own presets take random crops instead. Grid superpatches that are nearly all air are
    left out, which the paper does not mention; --data.min-tissue 0 draws them too.

    ViT-B encoder and MAE's decoder (512 wide, 8 deep), AdamW at 1.5e-4 per 256, flips: the paper does not state these
    (see docs/reproducing.md). About 2 TFLOP per superpatch and step.
    """
    return RunConfig(
        preset="paper",
        data=DataConfig(sampling="grid"),
        masking=DualMasking(plane_ratio=0.5, axis_ratio=0.5),
        model=MAEConfig(),
        train=TrainConfig(steps=200_000, batch=16, base_lr=1.5e-4),
        monitor=MonitorConfig(validate_every=5_000, checkpoint_every=1_000, image_every=5_000, log_every=50),
    )


def paper_union() -> RunConfig:
    """The literal §III-A: 75 % of every plane and half of the planes, 87.5 % in total, 512 visible tokens.

    Everything else is as in `paper`, including the grid of superpatches.
    """
    return replace(paper(), preset="paper_union", masking=DualMasking(plane_ratio=0.75, axis_ratio=0.5))


def base() -> RunConfig:
    """Our recommendation: the paper's input and masking in a smaller network that learns faster.

    384 wide and 8 deep with a decoder of 192 x 2, a ninth of the operations of `paper` per superpatch; position
    encodings that fit the grid, initial local attention, and Muon: what learned fastest on 64^3 in docs/lab.md.
    Overlapping predictions, which leave no seams, and a fusion with a kriged fill, which the last 15 % of the steps
    train: what rebuilt best there in equal time. Neither was compared at 128^3. With twice the time, a fusion on voxels
    rebuilds better (`--model.fusion.network voxels`).

    Its 50,000 steps of 8 superpatches, 247 GFLOP each, are 0.1 EFLOP: on a GPU that sustains F TFLOP/s, 27 / F hours;
    `maesil plan` measures them. It has not been trained to its end, so no scores are known to expect.
    """
    model = MAEConfig(
        encoder_width=384,
        encoder_depth=8,
        encoder_heads=6,
        decoder_width=192,
        decoder_depth=2,
        decoder_heads=3,
        position_wavelengths=GRID_WAVELENGTHS,
        start="local",
        **SEAMLESS,
    )
    return RunConfig(
        preset="base",
        model=model,
        train=TrainConfig(steps=50_000, batch=8, optimizer="muon", peak_lr=1e-3),
        monitor=MonitorConfig(validate_every=1_000, checkpoint_every=500, image_every=1_000, log_every=20),
    )


def primus() -> RunConfig:
    """`base` with the encoder of nnU-Net's Primus-S, which nnU-Net 2.8 takes as it stands.

    12 EVA blocks, 396 wide: rotary positions, gated MLPs with a norm inside, scaled residual branches. Export the run
    with `--to nnunet`: nnU-Net's own trainer `nnUNet_Primus_S_Trainer` loads it with `-pretrained_weights`. Decoder,
    fusion, masks, optimiser and steps are those of `base`. It has not been trained to its end. In the size of `demo`,
    its blocks are 0.5 dB behind plain ones after 1,000 steps (`results/sharper`).

    For Primus-B, M and L, set width, depth and heads to 792, 12 and 12, to 864, 16 and 12, or to 1056, 24 and 16.
    """
    start = base()
    assert isinstance(start.model, MAEConfig)
    model = replace(
        start.model, encoder_block="eva", encoder_width=396, encoder_depth=12, encoder_heads=6, mlp_ratio=8 / 3
    )
    return replace(start, preset="primus", model=model)


def small() -> RunConfig:
    """Our recommendation without a GPU: the network of `demo` for many patients, with a fusion on voxels.

    64^3 superpatches, 10.4 M parameters, of which 7.9 M are the fusion's. Splits are by patient. 3,400 steps train the
    network, and 2,500 the fusion. On 25 scans at 2 mm, that took about 42 minutes of a core with bf16: 20.3 dB, SSIM
    0.72 and LPIPS 0.20 on masked voxels of unseen patients, where kriging has 18.0, 0.62 and 0.34
    (`results/voxel_fusion`). The published weights `sharp-2mm` are this preset's, with seed 1. More steps may
    rebuild better: at 4 mm, 10,000 steps of the network instead of 3,400, with other flips, brought 1.2 dB (one seed).
    """
    start = demo()
    assert isinstance(start.model, MAEConfig)
    return replace(
        start,
        preset="small",
        data=DataConfig(),
        model=replace(start.model, fusion=replace(ON_VOXELS, share=25 / 59)),
        train=replace(start.train, steps=5900),
        monitor=MonitorConfig(validate_every=250, checkpoint_every=100, image_every=500, log_every=10),
    )


def demo() -> RunConfig:
    """A demo that takes minutes on two CPU cores: 64^3 superpatches, 2.5 M parameters, one patient's scan.

    Superpatches of the same scan are held out, and no training crop touches them: this shows that the method learns,
    and says nothing about unseen patients.

    With patients held out and 4,000 steps on 25 scans at 2 mm, in about 20 minutes of a core with bf16: 19.8 dB, SSIM
    0.68 and LPIPS 0.27 on masked voxels of unseen patients, where kriging has 18.0, 0.62 and 0.34
    (`results/comparison`). For patients of your own, `small` is made.
    """
    model = MAEConfig(
        superpatch=(64, 64, 64),
        encoder_width=192,
        encoder_depth=4,
        encoder_heads=3,
        decoder_width=128,
        decoder_depth=2,
        decoder_heads=2,
        position_wavelengths=GRID_WAVELENGTHS,
        start="local",
        **SEAMLESS,
    )
    return RunConfig(
        preset="demo",
        data=DataConfig(
            padded_crops=False,  # the held-out superpatches lie inside the scan
            holdout=HoldoutConfig(by="superpatch", test_superpatches=3, val_superpatches=1),
        ),
        model=model,
        train=TrainConfig(steps=1500, batch=8, optimizer="muon", peak_lr=3e-3),
        monitor=MonitorConfig(validate_every=100, checkpoint_every=50, image_every=200, log_every=10),
    )
