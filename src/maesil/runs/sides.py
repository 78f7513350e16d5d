"""Warnings of patients who change sides between the run that weights come from and the run that starts from them."""

from __future__ import annotations

from collections.abc import Iterable

from maesil.counts import count_of
from maesil.runs.from_weights import Initial
from maesil.sampling.config import HoldoutConfig
from maesil.sampling.holdout import scan_splits
from maesil.sampling.regions import training_scans
from maesil.seen import seen_patients
from maesil.store.scanstore import ScanEntry, ScanStore


def side_warnings(initial: Initial, store: ScanStore, holdout: HoldoutConfig) -> list[str]:
    """Says whom the weights saw and this run holds out, and whom their run held out and this one trains on.

    Args:
        initial: Weights that the run starts from.
        store: The run's store.
        holdout: What the run holds out.

    Returns:
        At most one warning for each side; none if the weights do not record whom they saw.
    """
    seen = seen_patients(initial.seen, store.entries)
    if seen is None:
        return []
    found = []
    held = _held_out(store, holdout)
    if tested := held & seen:
        found.append(
            f"the weights of --init were trained on {_of(tested, held)} held out here: scores on "
            f"{_them(tested)} say nothing about unseen patients"
        )
    trained = _patients(training_scans(store, holdout))
    # Whoever a run did not train on, it held out; patients of other stores may merely be new.
    if initial.store == store.fingerprint and (released := trained - seen):
        found.append(
            f"the run of --init held out {_of(released, trained)} to train on: its scores on {_them(released)} cannot "
            "be compared with this run's; repeat its --data.holdout flags to hold out the same patients"
        )
    return found


def _held_out(store: ScanStore, holdout: HoldoutConfig) -> set[str]:
    """The patients for validation and testing; none if superpatches are held out."""
    if holdout.by == "superpatch":
        return set()
    splits = scan_splits(store, holdout)
    return _patients(entry for entry in store.entries if splits[entry.scan_id] != "train")


def _patients(entries: Iterable[ScanEntry]) -> set[str]:
    return {entry.patient for entry in entries}


def _of(some: set[str], everyone: set[str]) -> str:
    total = count_of(len(everyone), "patient")
    return f"{len(some)} of the {total}" if len(everyone) > 1 else "the patient"


def _them(patients: set[str]) -> str:
    return "that patient" if len(patients) == 1 else "them"
