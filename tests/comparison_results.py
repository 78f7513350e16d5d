"""Made-up outcomes of comparisons."""

from __future__ import annotations

import numpy as np

from maesil.comparison.result import EVERYTHING, VISIBLE, Comparison, Cost, ModelResult
from maesil.ct.window import Window
from maesil.evaluation.scores import Score
from maesil.report.case import Case

COST = Cost(
    parameters=1000, voxels=262144, latent_elements=24576, latent_bits=None, flops=4e9, steps=10, superpatches=80,
    seconds=4.0, memory_gib=1.5,
)  # fmt: skip


def score(
    model: str, scan: str, value: float, metric: str = "psnr", region: str = "masked", patient: str = ""
) -> Score:
    dataset = "thorax" if scan < "e" else "abdomen"
    return Score(scan, dataset, patient or scan, model, metric, region, value, "p1", "a protocol")


def comparison(*scores: Score, failed: str | None = None) -> Comparison:
    """Ours, an autoencoder with its two rows, interpolation; and one that failed."""
    results = [
        ModelResult("maesil", "maesil", {"maesil": VISIBLE}, cost=COST),
        ModelResult("ae", "ae", {"ae": EVERYTHING, "ae, masked input": VISIBLE}, cost=COST),
        ModelResult("interpolation", "interpolation", {"interpolation": VISIBLE}),
    ]
    if failed is not None:
        results.append(ModelResult("vae", "vae", {"vae": VISIBLE}, failed=failed))
    return Comparison(
        title="Test", ours="maesil", budget="10 optimiser steps per model", results=tuple(results), scores=scores,
        notes=("A note.",), commands=("maesil compare store",), settings={"Data": {"scans": "a: 8"}},
    )  # fmt: skip


def full() -> Comparison:
    """Eight scans, three metrics, two regions, and a failure."""
    random = np.random.default_rng(0)
    level = {"maesil": 21.0, "ae": 27.0, "ae, masked input": 14.0, "interpolation": 19.0}
    scores = [
        score(model, scan, base / scale + random.normal() / 10, metric, region)
        for model, base in level.items()
        for scan in "abcdefgh"
        for metric, scale in (("psnr", 1.0), ("ssim", 40.0), ("lpips", 40.0))
        for region in ("masked", "whole")
    ]
    return comparison(*scores, failed="its training was killed by SIGKILL")


def case(seed: int = 0) -> Case:
    """A small scan and a noisy reconstruction."""
    random = np.random.default_rng(seed)
    truth = np.full((20, 24, 28), -1000.0, dtype=np.float32)
    truth[4:16, 5:20, 6:22] = 40.0
    rebuilt = truth + random.normal(0, 50, truth.shape).astype(np.float32)
    mask = np.zeros(truth.shape, dtype=bool)
    mask[8:16] = True
    window = Window()
    return Case("a", "thorax", truth, rebuilt, mask, np.ones_like(mask), (2.0, 1.0, 1.0), window)
