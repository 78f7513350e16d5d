"""The description in a run's checkpoints: config.json for programs, card.md for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import maesil
from maesil.config import RunConfig, to_dict
from maesil.counts import count_of
from maesil.sampling.regions import training_scans
from maesil.seen import trained_on
from maesil.store.scanstore import ScanEntry, ScanStore
from maesil.store.settings import grid_of, voxels
from maesil.training.devices import world_size
from maesil.version import commit, software


def run_record(config: RunConfig, store: ScanStore, initial: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A checkpoint's config.json: settings, how the store was prepared, training patients and software versions.

    Args:
        config: The run's settings.
        store: The run's store.
        initial: What "init" and "seen" say of the weights that the run started from; None: random weights.
    """
    settings = to_dict(config)
    scans = training_scans(store, config.data.holdout)
    settings["data"].pop("store")  # a local path
    settings.pop("init")  # another
    before = [] if initial is None else [initial["seen"]]
    return {
        **({} if initial is None else {"init": initial["init"]}),
        "maesil": maesil.__version__,
        "commit": commit(),
        "software": software(),
        "config": settings,
        "prepare": voxel_settings(store),
        "datasets": dataset_counts(scans),
        "seen": trained_on(scans, before=before),
        "store": store.fingerprint,
        "global_batch": config.train.global_batch(world_size(config.efficiency)),
    }


def voxel_settings(store: ScanStore) -> dict[str, Any]:
    """How the scans were prepared; of several stores, the first one's settings, and under "also" those that differ."""
    settings = dict(store.manifest["settings"])
    others = [each for each in store.settings_of_all if grid_of(each) != grid_of(settings)]
    return {**settings, "also": others} if others else settings


def store_lines(store: ScanStore) -> list[str]:
    """A line for each of several stores, with its voxels; none for a single one."""
    if len(store.paths) == 1:
        return []
    counts = Counter(entry.store for entry in store.entries)
    parts = enumerate(zip(store.paths, store.settings_of_all, strict=True))
    return [f"store {path.name}: {count_of(counts[at], 'scan')}, {voxels(settings)}" for at, (path, settings) in parts]


def dataset_counts(scans: Sequence[ScanEntry]) -> dict[str, int]:
    """Number of scans per dataset."""
    names = [entry.dataset for entry in scans]
    return {name: names.count(name) for name in sorted(set(names))}


def model_card(
    config: RunConfig,
    store: ScanStore,
    step: int,
    metrics: Mapping[str, float],
    initial: Mapping[str, Any] | None = None,
) -> str:
    """A checkpoint's card.md; the arguments are those of `run_record`, the step and its metrics."""
    model, masking, window = config.model, config.masking, config.data.window
    shape = " x ".join(map(str, model.superpatch))
    trained_on = dataset_counts(training_scans(store, config.data.holdout))
    counts = ", ".join(f"{name} ({count})" for name, count in trained_on.items())
    scores = "".join(f"- {name}: {value:.4g}\n" for name, value in sorted(metrics.items()))
    network = "".join(f"- {part}: {words}\n" for part, words in model.describe().items())
    what = "A 3D masked autoencoder" if model.name == "maesil" else f"A baseline of MAESIL, `{model.name}`,"
    return (
        f"# MAESIL, preset `{config.preset}`, step {step}\n\n"
        f"{what} pre-trained on unlabeled CT (arXiv:2604.00514) with maesil {maesil.__version__}.\n\n"
        f"- input: superpatches of {shape} voxels, orientation SPL, HU window "
        f"[{window.low_hu:g}, {window.high_hu:g}] mapped to [0, 1]\n"
        f"- voxels: {voxels(voxel_settings(store))}\n"
        f"- tokens: {model.grid.tokens} patches of {'x'.join(map(str, model.patch))} voxels, "
        f"{masking.name} masking, {masking.ratio:.1%} hidden\n"
        f"{network}"
        f"{_start(initial)}{_longer(config)}"
        f"- trained on: scans per dataset: {counts}\n\n"
        f"Last measured:\n\n{scores or '- nothing yet'}\n\n"
        "Not a medical device. Scores on held-out superpatches do not measure clinical usefulness.\n"
    )


def _start(initial: Mapping[str, Any] | None) -> str:
    if initial is None:
        return ""
    init = initial["init"]
    return f"- started from: {init['loaded']} of a run of preset `{init['preset']}`, step {init['step']:,}\n"


def _longer(config: RunConfig) -> str:
    """A line for every time that the run was made longer: its learning rate is not that of a run planned so long."""
    planned = [*(before for _, before in config.lengthened), config.train.steps]
    return "".join(
        f"- made longer at step {at:,}: from {before:,} to {after:,} steps; the learning rate moved to the longer "
        "schedule there\n"
        for (at, before), after in zip(config.lengthened, planned[1:], strict=True)
    )
