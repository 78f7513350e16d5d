"""Stores and settings that several tests share."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from maesil.config import RunConfig
from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.datasets.splits import SplitConfig
from maesil.models.mae import MAEConfig
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.store.prepare import PrepareConfig, prepare
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig

# One thread in this process and in those it starts: the runners of pytest-xdist share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
# No deadline per example: machines that run tests are busy at times.
hypothesis.settings.register_profile("maesil", deadline=None)
hypothesis.settings.load_profile("maesil")

TINY_MODEL = MAEConfig(
    superpatch=(32, 32, 32), encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2,
)  # fmt: skip


def blob(seed: int, shape: tuple[int, int, int] = (70, 64, 80)) -> Volume:
    """A body-like blob in air with smooth structure inside, int16 HU."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    inside = axes[1] ** 2 / 0.7 + axes[2] ** 2 / 0.9 < 1
    texture = sum(random.normal(0, 60) * np.sin(random.uniform(2, 9) * axis + random.uniform(0, 6)) for axis in axes)
    hu = np.where(inside, 40 + texture, -1000) + random.normal(0, 5, shape)
    return Volume(hu.astype(np.int16), Geometry.from_parts(shape, (2.0, 2.0, 2.0)))


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four small NIfTI scans: a, b to train, c to validate, d to test."""
    folder = tmp_path_factory.mktemp("scans")
    for seed, name in enumerate("abcd"):
        write_nifti(folder / f"{name}.nii.gz", blob(seed))
    return folder


@pytest.fixture(scope="session")
def tiny_store(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scans, prepared at 2 mm."""
    store = tmp_path_factory.mktemp("prepared") / "store"
    report = prepare([scans], store, PrepareConfig(spacing_mm=2.0, salt="test"), workers=0)
    assert len(report.prepared) == 4
    return store


@pytest.fixture
def tiny_config(tiny_store: Path) -> RunConfig:
    """Twelve steps of a tiny model on the tiny store."""
    patients = SplitConfig(fractions=(1.0, 0.0, 0.0), overrides={"c": "val", "d": "test"})
    return replace(
        RunConfig(),
        preset="tiny",
        data=DataConfig(store=tiny_store, holdout=HoldoutConfig(patients=patients)),
        model=TINY_MODEL,
        train=TrainConfig(steps=12, batch=2, peak_lr=1e-3),
        monitor=MonitorConfig(validate_every=4, checkpoint_every=3, image_every=0, log_every=2),
        efficiency=EfficiencyConfig(accelerator="cpu", precision="32-true", threads=1),
    )
