"""Which patients of a store are trained on, and which are held out for validation and testing."""

from __future__ import annotations

from maesil.datasets.copies import same_patients
from maesil.datasets.splits import divide_together
from maesil.sampling.config import HoldoutConfig
from maesil.store.scanstore import ScanEntry, ScanStore


def scan_splits(store: ScanStore, holdout: HoldoutConfig) -> dict[str, str]:
    """Map from scan to split: the user's override, else the split in the store, else the drawn one.

    Patients with a scan of the same bytes are drawn together, as one patient: copies of a scan that was trained on test
    nothing. If one of them has its split already, the others follow.
    """
    held = {entry.scan_id: _given_split(entry, holdout) for entry in store.entries}
    one_of = same_patients((entry.patient, entry.source_sha256) for entry in store.entries)
    drawn = divide_together([(entry.patient, held[entry.scan_id]) for entry in store.entries], one_of, holdout.patients)
    return {entry.scan_id: held[entry.scan_id] or drawn[one_of[entry.patient]] for entry in store.entries}


def _given_split(entry: ScanEntry, holdout: HoldoutConfig) -> str | None:
    """The split of a scan that is not drawn; None if it is."""
    if entry.dataset in holdout.train_only:
        return "train"
    override = holdout.patients.overrides.get(entry.patient)
    return override or (entry.split if holdout.given else None)
