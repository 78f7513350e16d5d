"""What a task begins from: a pre-trained encoder, or the same architecture with random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from maesil import __version__
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

NONE = "none"
PRETRAINED_DECAY = 0.75
"""Learning rate of a block as a share of the block's above it, where the encoder is pre-trained."""
RANDOM_DECAY = 1.0
"""The same where its weights are random: the embedding has as much to learn as the head."""
VOXEL_KEYS = ("policy", "spacing_mm", "cube")


def starting_point(init: str, preset: str, store: ScanStore, *, random_start: bool) -> tuple[Backbone, Transfer]:
    """The encoder and its card.

    Args:
        init: What `maesil.load` takes, or "none".
        preset: Architecture where `init` is "none".
        store: Whose voxels it will see.
        random_start: Random weights, also where `init` names an encoder.

    Raises:
        CheckpointError: There is no such encoder.
        ConfigError: The encoder was pre-trained on voxels of another size than the store's.
    """
    if init == NONE:
        return _fresh(_preset_card(preset, store))
    backbone, card = load_with_card(init)
    require_same_voxels(card, store)
    return _fresh(card) if random_start else (backbone, card)


def seen_notes(record: Mapping[str, Any], scans: Sequence[ScanEntry]) -> tuple[str, ...]:
    """How many test patients the encoder saw before fine-tuning and, where there are any, in it.

    Args:
        record: The config.json of a fine-tuned checkpoint.
        scans: Those that are scored.
    """
    notes, own = [seen_note(record["encoder"].get("seen"), scans)], record.get("seen")
    if seen_patients(own, scans):
        notes.append(seen_note(own, scans, by="the fine-tuning"))
    return tuple(notes)


def decay_of(asked: float | None, init: str, *, random_start: bool) -> float:
    """The layer decay of a training: what is asked for, else what suits the start.

    Args:
        asked: The setting; None: whatever suits.
        init: What `maesil.load` takes, or "none".
        random_start: Random weights, also where `init` names an encoder.
    """
    if asked is not None:
        return asked
    return RANDOM_DECAY if random_start or init == NONE else PRETRAINED_DECAY


def require_same_voxels(card: Transfer, store: ScanStore) -> None:
    """Raises ConfigError where the store's voxels are not those of the pre-training."""
    theirs, ours = ({key: settings.get(key) for key in VOXEL_KEYS} for settings in (card.voxels, _settings(store)))
    if theirs != ours:
        told = " against ".join(", ".join(f"{k} {v}" for k, v in d.items() if v is not None) for d in (theirs, ours))
        raise ConfigError(
            f"the encoder knows other voxels than the store has: {told}",
            where=store.path,
            fix="prepare the scans as for the pre-training: the same --policy and --spacing-mm",
        )


def _settings(store: ScanStore) -> dict[str, Any]:
    return dict(store.manifest["settings"])


def _fresh(card: Transfer) -> tuple[Backbone, Transfer]:
    """As a pre-training starts: the same initialisation, so that a comparison is of pre-training alone."""
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
