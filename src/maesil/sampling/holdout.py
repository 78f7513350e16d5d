"""Which patients of a store are trained on, and which are held out for validation and testing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from maesil.datasets.splits import divide
from maesil.sampling.config import HoldoutConfig
from maesil.store.scanstore import ScanEntry, ScanStore


def scan_splits(store: ScanStore, holdout: HoldoutConfig) -> dict[str, str]:
    """Map from scan to split: the user's override, else the split in the store, else the drawn one.

    Patients with a scan of the same bytes are drawn together, as one patient: copies of a scan that was trained on test
    nothing. If one of them has its split already, the others follow.
    """
    held = {entry.scan_id: split for entry in store.entries if (split := _given_split(entry, holdout)) is not None}
    one_of = same_patients(store.entries)
    named = Counter(one_of.values())
    of_patient = {entry.patient: held[entry.scan_id] for entry in store.entries if entry.scan_id in held}
    followed = {one_of[patient]: split for patient, split in of_patient.items() if named[one_of[patient]] > 1}
    free = {one_of[entry.patient] for entry in store.entries if entry.scan_id not in held} - followed.keys()
    splits = divide(free, holdout.patients, tuple(of_patient.values())) | followed
    return {entry.scan_id: held.get(entry.scan_id) or splits[one_of[entry.patient]] for entry in store.entries}


def same_patients(entries: Iterable[ScanEntry]) -> dict[str, str]:
    """Map from patient to the first name, in sorted order, of all patients who share the bytes of a scan with it."""
    first: dict[str, str] = {}
    leader: dict[str, str] = {}

    def lead(patient: str) -> str:
        while leader.setdefault(patient, patient) != patient:
            patient = leader[patient]
        return patient

    for entry in entries:
        other = first.setdefault(entry.source_sha256, entry.patient)
        low, high = sorted((lead(other), lead(entry.patient)))
        leader[high] = low
    return {patient: lead(patient) for patient in leader}


def _given_split(entry: ScanEntry, holdout: HoldoutConfig) -> str | None:
    """The split of a scan that is not drawn; None if it is."""
    if entry.dataset in holdout.train_only:
        return "train"
    override = holdout.patients.overrides.get(entry.patient)
    return override or (entry.split if holdout.given else None)
