"""The starting point of a task: a pre-trained encoder, or the same architecture with random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from maesil import __version__
from maesil.catalog import NONE
from maesil.encoder.card import Transfer
from maesil.encoder.load import load_with_card
from maesil.errors import ConfigError
from maesil.masking import DualMasking
from maesil.models import MaskedAutoencoder
from maesil.models.backbone import Backbone, backbone_of
from maesil.models.mae import MAEConfig
from maesil.presets import PRESETS
from maesil.seen import seen_note, seen_patients, trained_on
from maesil.store.scanstore import ScanEntry, ScanStore
from maesil.store.settings import grid_of, grids_against, grids_of

PRETRAINED_DECAY = 0.75
"""Ratio of a block's learning rate to that of the block above, for a pre-trained encoder."""
RANDOM_DECAY = 1.0
"""The same for random weights: the embedding has as much to learn as the head."""


def starting_point(init: str, preset: str, store: ScanStore, *, random_start: bool) -> tuple[Backbone, Transfer]:
    """Returns the encoder and its card.

    Args:
        init: Anything `maesil.load` accepts, or "none".
        preset: Preset whose architecture is used if `init` is "none".
        store: The store the encoder will be used on.
        random_start: Use random weights even if `init` names an encoder.

    Raises:
        CheckpointError: There is no such encoder.
        ConfigError: The encoder was pre-trained on voxels that differ from the store's.
    """
    if init == NONE:
        return _fresh(_preset_card(preset, store))
    backbone, card = load_with_card(init)
    require_same_voxels(card, store)
    return _fresh(card) if random_start else (backbone, card)


def digest_of(backbone: Backbone) -> str:
    """SHA-256 of an encoder's weights, in hexadecimal, wherever they were read from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def seen_notes(record: Mapping[str, Any], scans: Sequence[ScanEntry]) -> tuple[str, ...]:
    """How many test patients the encoder was trained on, in pre-training and, if any, in fine-tuning.

    Args:
        record: Contents of a fine-tuned checkpoint's config.json.
        scans: The scans that are scored.
    """
    notes, own = [seen_note(record["encoder"].get("seen"), scans)], record.get("seen")
    if seen_patients(own, scans):
        notes.append(seen_note(own, scans, by="the fine-tuning"))
    return tuple(notes)


def decay_of(setting: float | None, init: str, *, random_start: bool) -> float:
    """Returns the layer decay of a training run: the setting, or else the default for its initial weights.

    Args:
        setting: Layer decay from the configuration; None: the default.
        init: Anything `maesil.load` accepts, or "none".
        random_start: Use random weights even if `init` names an encoder.
    """
    if setting is not None:
        return setting
    return RANDOM_DECAY if random_start or init == NONE else PRETRAINED_DECAY


def require_same_voxels(card: Transfer, store: ScanStore) -> None:
    """Raises ConfigError if the store's voxels differ from the pre-training's."""
    if grid_of(_settings(store)) not in grids_of(card.voxels):
        both = grids_against(card.voxels, _settings(store))
        labels = " --labels" if any(entry.labels is not None for entry in store.entries) else ""
        voxels = flags_of(card.voxels)
        raise ConfigError(
            f"the encoder was pre-trained on other voxels than the store's: {both}",
            where=store.path,
            fix=f"prepare the scans as for the pre-training: maesil prepare SCANS{labels} --out OTHER {voxels}",
        )


def flags_of(voxels: Mapping[str, Any]) -> str:
    """The flags of `maesil prepare` for a store's voxels, from `Transfer.voxels`."""
    if voxels["policy"] == "spacing":
        return f"--spacing-mm {str(voxels['spacing_mm']).removesuffix('.0')}"  # every digit: the sizes must be equal
    return f"--policy cube --cube {voxels['cube']}" if voxels["policy"] == "cube" else f"--policy {voxels['policy']}"


def _settings(store: ScanStore) -> dict[str, Any]:
    return dict(store.manifest["settings"])


def _fresh(card: Transfer) -> tuple[Backbone, Transfer]:
    """A random encoder, initialised as for pre-training, so that a comparison measures pre-training alone."""
    config = card.config()
    encoder = MaskedAutoencoder(config, DualMasking()).encoder
    return backbone_of(encoder, config, low_hu=card.low_hu, high_hu=card.high_hu), replace(card, seen=trained_on(()))


def _preset_card(preset: str, store: ScanStore) -> Transfer:
    run = PRESETS[preset]()
    assert isinstance(run.model, MAEConfig)
    window = run.data.window
    return Transfer(
        model=asdict(run.model),
        low_hu=window.low_hu,
        high_hu=window.high_hu,
        voxels=_settings(store),
        masking={},
        datasets={},
        preset=preset,
        maesil=__version__,
        commit=None,
        step=0,
    )
