"""Warnings of patients who change sides between the run that weights come from and the run that starts from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from maesil.config import RunConfig, to_dict
from maesil.counts import count_of, some_of
from maesil.runs.from_weights import Initial
from maesil.sampling.holdout import scan_splits
from maesil.sampling.regions import training_scans
from maesil.seen import seen_patients
from maesil.store.scanstore import ScanEntry, ScanStore


def side_warnings(initial: Initial, store: ScanStore, config: RunConfig) -> list[str]:
    """Says whom the weights saw and this run holds out, and whom their run held out and this one trains on.

    Weights that do not record whom they saw get no warning. Only of the same store is it known whom their run held out:
    of another, or for exported weights, a patient whom they have not seen may be new.

    Args:
        initial: Weights that the run starts from.
        store: The run's store.
        config: The run's settings.
    """
    seen = seen_patients(initial.seen, store.entries)
    if seen is None:
        return []
    return [*_seen_and_held(initial, store, config, seen), *_held_and_seen(initial, store, config, seen)]


def moved_warnings(seen: Mapping[str, Any] | None, store: ScanStore, config: RunConfig) -> list[str]:
    """Says who changed sides since a run that goes on began, as a later version of maesil draws splits otherwise.

    Args:
        seen: Record of the training patients in the run's last checkpoint; None: it has none.
        store: The run's store.
        config: The run's settings.
    """
    own = None if seen is None else {name: value for name, value in seen.items() if name != "before"}
    trained = seen_patients(own, store.entries)
    moved = [] if trained is None else sorted(trained ^ _patients(training_scans(store, config.data.holdout)))
    if not moved:
        return []
    return [
        f"{some_of(moved)}: in training when this run began and held out now, or the reverse, as splits are drawn "
        "otherwise in this version: its scores may be on patients that it saw; train anew for scores of unseen patients"
    ]


def _seen_and_held(initial: Initial, store: ScanStore, config: RunConfig, seen: frozenset[str]) -> list[str]:
    holdout = config.data.holdout
    if holdout.by == "superpatch":
        if not seen or _holds_the_same(initial, store, config):
            return []
        return [
            f"the weights of --init were trained on scans of {_of(seen, _patients(store.entries))}, and may have seen "
            "the superpatches that are held out here: scores on these may say nothing"
        ]
    splits = scan_splits(store, holdout)
    held = _patients(entry for entry in store.entries if splits[entry.scan_id] != "train")
    if not held & seen:
        return []
    return [
        f"the weights of --init were trained on {_of(held & seen, held)} whom this run holds out: scores on them say "
        "nothing about unseen patients"
    ]


def _held_and_seen(initial: Initial, store: ScanStore, config: RunConfig, seen: frozenset[str]) -> list[str]:
    trained = _patients(training_scans(store, config.data.holdout))
    if initial.store != store.fingerprint or not trained - seen:
        return []
    return [
        f"the run of --init held out {len(trained - seen)} of this run's {count_of(len(trained), 'training patient')}: "
        "its scores on them cannot be compared with this one's; to hold out the same patients, repeat its "
        "--data.holdout flags"
    ]


def _holds_the_same(initial: Initial, store: ScanStore, config: RunConfig) -> bool:
    """Whether the weights come from a run that held out the same superpatches."""
    settings = to_dict(config)
    here = {**settings["data"]["holdout"], "superpatch": settings["model"]["superpatch"]}
    return initial.store == store.fingerprint and initial.holdout == here


def _patients(entries: Iterable[ScanEntry]) -> set[str]:
    return {entry.patient for entry in entries}


def _of(some: Iterable[str], everyone: set[str]) -> str:
    """How many of these patients: "3 of the 17 patients", "all 17 patients", "the patient"."""
    number, total = len(set(some)), len(everyone)
    if total == 1:
        return "the patient"
    return f"all {count_of(total, 'patient')}" if number == total else f"{number} of the {total} patients"
