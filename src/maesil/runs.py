"""A run folder: its settings, what its checkpoints say of themselves, and how a model comes back from one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import maesil
from maesil.config import RunConfig, changed_keys, dump_yaml, from_dict, load_yaml, to_dict
from maesil.errors import CheckpointError, ConfigError, StoreError
from maesil.models import Pretrainer, make_model
from maesil.sampling.regions import training_scans
from maesil.seen import trained_on
from maesil.store.location import is_there
from maesil.store.scanstore import ScanEntry, ScanStore
from maesil.training.checkpoint import checkpoint_folder, load_weights, read_config
from maesil.training.devices import world_size


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        status: "finished"; "interrupted", to be resumed by the same call; "already finished" where nothing was left.
        run: The run folder.
        step: Optimiser steps done.
        steps: Optimiser steps of the run.
    """

    status: Literal["finished", "interrupted", "already finished"]
    run: Path
    step: int
    steps: int


def settle(config: RunConfig, run: Path) -> None:
    """Writes the resolved configuration into a new run folder, or checks that an old one agrees with it.

    Raises:
        ConfigError: The folder holds a run whose result these settings would change.
    """
    path = run / "config.yaml"
    if path.is_file():
        before = load_yaml(path)
        changed = changed_keys(before, config)
        # The same superpatches make a step, whoever of how many devices computes which of them.
        if _global_batch(before) == _global_batch(config):
            changed = [key for key in changed if key not in ("train.batch", "train.accumulate")]
        if changed:
            raise ConfigError(
                f"this folder holds a run with other settings: {', '.join(changed)}",
                where=run,
                fix="resume with the same settings, or give another --run (of demo: --out)",
            )
    run.mkdir(parents=True, exist_ok=True)
    _replace_text(path, dump_yaml(config))


def _global_batch(config: RunConfig) -> int:
    return config.train.global_batch(world_size(config.efficiency))


def _replace_text(path: Path, text: str) -> None:
    """Writes a file in one move, under a name of its own first: every rank of a run does so at once."""
    number, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
    Path(fresh).chmod(0o644)
    Path(fresh).replace(path)


def steps_done(run: Path) -> int:
    """Optimiser steps in the run's last checkpoint; 0 where there is none."""
    try:
        return int(read_config(checkpoint_folder(run))["step"])
    except CheckpointError:
        return 0


def run_record(config: RunConfig, store: ScanStore) -> dict[str, Any]:
    """A checkpoint's config.json: settings, what the store was made of, whom the run saw, and with what software."""
    settings = to_dict(config)
    scans = training_scans(store, config.data.holdout)
    settings["data"].pop("store")  # a path of one machine
    return {
        "maesil": maesil.__version__,
        "commit": commit(),
        "config": settings,
        "prepare": store.manifest["settings"],
        "datasets": dataset_counts(scans),
        "seen": trained_on(scans),
    }


def dataset_counts(scans: Sequence[ScanEntry]) -> dict[str, int]:
    """Scans per dataset."""
    names = [entry.dataset for entry in scans]
    return {name: names.count(name) for name in sorted(set(names))}


def commit() -> str | None:
    """The commit of the checkout this package runs from; None where it is installed without one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def voxels(prepared: Mapping[str, Any]) -> str:
    """What `prepare` made of scans, in words."""
    if prepared["policy"] == "spacing":
        return f"{prepared['spacing_mm']:g} mm isotropic"
    return f"resampled to {prepared['cube']}^3" if prepared["policy"] == "cube" else "as the scans have them"


def model_card(config: RunConfig, store: ScanStore, step: int, metrics: Mapping[str, float]) -> str:
    """A checkpoint's card.md."""
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
        f"- voxels: {voxels(store.manifest['settings'])}\n"
        f"- tokens: {model.grid.tokens} patches of {'x'.join(map(str, model.patch))} voxels, "
        f"{masking.name} masking, {masking.ratio:.1%} hidden\n"
        f"{network}"
        f"- trained on: scans per dataset: {counts}\n\n"
        f"Last measured:\n\n{scores or '- nothing yet'}\n\n"
        "Not a medical device. Scores on held-out superpatches are no measure of clinical use.\n"
    )


@dataclass(frozen=True)
class LoadedModel:
    """A model from a checkpoint, in evaluation mode.

    Attributes:
        model: The pretrainer.
        config: The run's configuration, without the store's path.
        record: The checkpoint's config.json.
        folder: The checkpoint.
    """

    model: Pretrainer
    config: RunConfig
    record: Mapping[str, Any]
    folder: Path


def load(path: Path, *, checkpoint: Literal["last", "best"] = "last", device: str | None = None) -> LoadedModel:
    """Loads a model from a run or a checkpoint folder, without pickle.

    Args:
        path: A run folder, or a checkpoint folder.
        checkpoint: Which of a run's checkpoints.
        device: Where to put it; None: a GPU if there is one.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    folder = checkpoint_folder(path, checkpoint)
    record = read_config(folder)
    config = from_dict(record["config"], where=folder)
    model = make_model(config.model, config.masking)
    load_weights(model, folder)
    return LoadedModel(model.eval().to(device or default_device()), config, record, folder.resolve())


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def run_store(run: Path) -> Path:
    """The store a run was trained on, as its config.yaml names it.

    Raises:
        CheckpointError: This is no run folder.
        StoreError: The store is not where it was.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise CheckpointError(
            "this is no run folder: it has no config.yaml", where=run, fix="name the store: --data.store"
        )
    store = load_yaml(path).data.store
    if store is None or not is_there(store):
        raise StoreError("the run's store is not there any more", where=store, fix="name another: --data.store STORE")
    return store
