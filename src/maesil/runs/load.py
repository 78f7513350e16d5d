"""Loading a model from a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from maesil.config import RunConfig, from_dict, load_yaml
from maesil.errors import CheckpointError, StoreError
from maesil.models import Pretrainer, make_model
from maesil.runs.checkpoints import checkpoint_of
from maesil.store.location import is_there
from maesil.training.checkpoint import load_weights


@dataclass(frozen=True)
class LoadedModel:
    """A model from a checkpoint, in evaluation mode.

    Attributes:
        model: The pre-trained model.
        config: The run's configuration, without the store's path.
        record: Contents of the checkpoint's config.json.
        folder: The checkpoint folder.
    """

    model: Pretrainer
    config: RunConfig
    record: Mapping[str, Any]
    folder: Path


def load_run(path: Path, *, checkpoint: Literal["last", "best"] = "last", device: str | None = None) -> LoadedModel:
    """Loads a model from a run or a checkpoint folder, without pickle.

    Args:
        path: A run folder, or a checkpoint folder.
        checkpoint: Which of a run's checkpoints to load.
        device: The model's device; None: a GPU if there is one.

    Raises:
        CheckpointError: The checkpoint does not exist, is damaged, or is not of a pre-training run.
    """
    folder, record = checkpoint_of(path, checkpoint)
    config = from_dict(record["config"], where=folder)
    model = make_model(config.model, config.masking)
    load_weights(model, folder)
    return LoadedModel(model.eval().to(device or default_device()), config, record, folder.resolve())


def default_device() -> str:
    """Returns "cuda" if there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def run_store(run: Path) -> tuple[Path, ...]:
    """Paths of the store that a run was trained on, or of its stores, from its config.yaml.

    Raises:
        CheckpointError: `run` is not a run folder.
        StoreError: The store no longer exists.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise CheckpointError(
            "this is not a run folder: it has no config.yaml", where=run, fix="give the store: --data.store"
        )
    stores = load_yaml(path).data.stores
    gone = [store for store in stores if not is_there(store)]
    if gone or not stores:
        where = gone[0] if gone else None
        raise StoreError("the run's store no longer exists", where=where, fix="give another: --data.store STORE")
    return stores
