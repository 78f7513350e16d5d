"""One fold of a classification with full fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console

from maesil import __version__
from maesil.datasets.splits import SplitConfig
from maesil.encoder.card import Transfer
from maesil.encoder.start import decay_of
from maesil.errors import ConfigError
from maesil.models.backbone import Backbone
from maesil.models.transformer import recompute_blocks
from maesil.runs.checkpoints import steps_done
from maesil.runs.load import default_device
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.sampling.dataset import SuperpatchDataset
from maesil.sampling.plan import make_plan
from maesil.sampling.regions import regions_of, tissue_share
from maesil.seen import trained_on
from maesil.store.scanstore import ScanStore
from maesil.tasks.classification.config import ClassificationConfig
from maesil.tasks.classification.module import ClassificationModule
from maesil.tasks.classification.network import Classifier
from maesil.tiling import Tiling
from maesil.training.batches import Batches
from maesil.training.checkpoint import load_weights
from maesil.training.checkpoint_folder import checkpoint_folder
from maesil.training.config import MonitorConfig
from maesil.training.live_progress import LiveProgress
from maesil.training.trainer import Job, fit, prepare_process
from maesil.version import commit

LEAST_TISSUE = DataConfig().min_tissue
"""Superpatches with a smaller share are used neither for training nor for prediction, unless a scan has no others."""


def train_fold(
    config: ClassificationConfig,
    store: ScanStore,
    start: tuple[Backbone, Transfer],
    known: Mapping[str, int],
    asked: Sequence[str],
    run: Path,
    console: Console | None,
    after: Callable[[str], None],
) -> Float[np.ndarray, "s k"]:
    """Trains on the known scans and predicts the class of the others; resumes an interrupted fold.

    Args:
        config: Optimiser settings and length.
        store: The scans.
        start: The encoder to start from, and its card.
        known: Training scan to class.
        asked: Scans to predict.
        run: The fold's folder.
        console: Where to show progress.
        after: Called with the name of every scan that was predicted.

    Returns:
        Probabilities (s, k) of the scans to predict, each the mean over its superpatches.
    """
    classes = 1 + max(known.values())
    backbone, card = start
    model = Classifier(backbone, classes)
    done = steps_done(run)
    if console is not None and 0 < done < config.train.steps:
        console.print(f"resumed at step {done}", markup=False)
    if done < config.train.steps:
        _train(config, store, model, card, known, run, console)
    load_weights(model, checkpoint_folder(run))
    model.eval().to(default_device())
    found = []
    for scan in asked:
        found.append(_predicted(model, store, scan))
        after(scan)
    return np.stack(found)


def _train(
    config: ClassificationConfig,
    store: ScanStore,
    model: Classifier,
    card: Transfer,
    known: Mapping[str, int],
    run: Path,
    console: Console | None,
) -> None:
    holdout = HoldoutConfig(patients=SplitConfig(fractions=(1.0, 0.0, 0.0)), given=False)
    data = DataConfig(padded_crops=False, holdout=holdout)
    superpatch = model.backbone.config.superpatch
    regions = [r for r in regions_of(store, data, superpatch, "train") if r.entry.scan_id in known]
    if not regions:
        raise ConfigError("no training scan has a superpatch with tissue", where=store.path)
    monitor = MonitorConfig(validate_every=0, image_every=0, checkpoint_every=max(1, config.train.steps // 4))
    record: dict[str, Any] = {
        "kind": "classification",
        "maesil": __version__,
        "commit": commit(),
        "encoder": asdict(card),
        "seen": trained_on(region.entry for region in regions),
    }
    job = Job(config.train, monitor, config.efficiency, config.seed, run, record, lambda step, _: f"step {step}\n")
    efficiency = prepare_process(job)
    # Draw every scan equally often, whatever its size.
    even = [replace(region, tiles=region.tiles[:1]) for region in regions]
    training = SuperpatchDataset(store, make_plan(even, data, config.seed), superpatch)
    if efficiency.recompute:
        recompute_blocks(model)
    decay = decay_of(config.layer_decay, config.init, random_start=config.random_start)
    module = ClassificationModule(model, config.train, known, decay)
    bar = LiveProgress(console or Console(quiet=True), "fine-tuning")
    if fit(module, Batches(training, None, config.train, efficiency), job, efficiency, bar) == "interrupted":
        raise KeyboardInterrupt


@torch.inference_mode()
def _predicted(model: Classifier, store: ScanStore, scan: str) -> Float[np.ndarray, " k"]:
    entry = store.entry(scan)
    tiling = Tiling(entry.shape, model.backbone.config.superpatch)
    occupancy = store.occupancy(scan)
    # As in training, tiles lie inside the scan: to the network, a tile that is half padding looks like lung.
    tiles = list(tiling.within())
    solid = [tile for tile in tiles if tissue_share(occupancy, tile.origin, tiling.tile) >= LEAST_TISSUE] or tiles
    device = next(model.parameters()).device
    found = []
    for tile in solid:
        hu = torch.from_numpy(store.read(scan, tile.origin, tiling.tile))[None, None].to(device)
        found.append(model(model.backbone.from_hu(hu)).float().softmax(dim=1)[0].cpu().double().numpy())
    mean: Float[np.ndarray, " k"] = np.mean(found, axis=0)
    return mean
