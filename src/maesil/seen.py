"""Records which patients were seen in training, without names, so that a later test can report any overlap.

A checkpoint holds a fresh salt and two sets of hashes made with it: of the names of its training patients, as their
store has them, and of the fingerprints of its training scans (SHA-256 of their source files). A patient counts as seen
if the name is among them, or the source of one of the patient's scans. A run that starts from the weights of another
keeps the record of that one, too.

What this detects:

* patients of the training store;
* the same files in any other store: under other names, another salt or another spacing;
* other scans of a patient who has the same name in both stores. This holds for public case names and for patients of
  DICOM files, whose names are hashes made with the user's own salt, which is the same for all stores of one user.

What it cannot detect:

* other scans of a patient who has different names in two stores: names under two salts, or two public names;
* a source that was rewritten (DICOM converted to NIfTI, a file recompressed), if the name differs too;
* validation patients, who chose a checkpoint but were not trained on.

Two patients with the same name in two collections ("case_0001") count as one, as in splits: better one too many.

The salt is stored next to the hashes. They hide names from readers of the checkpoint, but anyone who knows a name or
has a file can test for it; where the names of a store are hashes themselves, that requires the store's salt too.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maesil.datasets.salt import hashed
from maesil.store.scanstore import ScanEntry

SALT_BYTES = 16


def trained_on(scans: Iterable[ScanEntry], *, before: Sequence[Mapping[str, Any] | None] = ()) -> dict[str, Any]:
    """The record that a checkpoint keeps of its training scans: salt, hashes of patients, hashes of sources.

    Args:
        scans: Training scans; empty if nothing was trained.
        before: Record of the weights that the training started from, if there are any; None: they have no record.
    """
    salt, known = secrets.token_hex(SALT_BYTES), list(scans)
    return {
        **({"before": before[0]} if before else {}),
        "salt": salt,
        "patients": sorted({_patient_hash(salt, entry) for entry in known}),
        "sources": sorted({_source_hash(salt, entry) for entry in known}),
    }


def seen_patients(record: Mapping[str, Any] | None, scans: Iterable[ScanEntry]) -> frozenset[str] | None:
    """The patients of these scans that were seen in training, by name or by the source of one of their scans.

    Args:
        record: Record from `trained_on`; None for an older checkpoint without one.
        scans: Scans of any store.

    Returns:
        Their names in the store of these scans; None if the checkpoint, or one that it started from, does not record
        its training patients.
    """
    if record is None:
        return None
    entries = list(scans)
    earlier = seen_patients(record["before"], entries) if "before" in record else frozenset()
    if earlier is None:
        return None
    salt, patients, sources = str(record["salt"]), set(record["patients"]), set(record["sources"])
    return earlier | frozenset(
        entry.patient
        for entry in entries
        if _patient_hash(salt, entry) in patients or _source_hash(salt, entry) in sources
    )


def seen_note(
    record: Mapping[str, Any] | None,
    scans: Iterable[ScanEntry],
    *,
    by: str = "the encoder",
    whom: str = "test",
    scored: bool = True,
) -> str:
    """A sentence to print below a table: how many patients of these scans were seen in training.

    Args:
        record: Record from `trained_on`; None if the checkpoint has none.
        scans: Scans that are scored.
        by: Name of what was trained.
        whom: Role of the patients.
        scored: Whether the table has scores, which the note then warns of.
    """
    entries = list(scans)
    seen, total = seen_patients(record, entries), len({entry.patient for entry in entries})
    name = f"{by[0].upper()}{by[1:]}"
    if record is None or seen is None:
        return "The checkpoint does not record its training patients."
    if not record["patients"] and "before" not in record:
        return f"{name} saw no patient in training: it starts from random weights."
    if not seen:
        who = f"The {whom} patient was not" if total == 1 else f"None of the {total} {whom} patients was"
        return f"{who} seen in pre-training, by name or source."
    if total == 1:
        warning = ": the score says nothing about unseen patients" if scored else ""
        return f"{name} saw the {whom} patient in training{warning}."
    who = f"all {total}" if len(seen) == total else f"{len(seen)} of the {total}"
    whose = "this patient's" if len(seen) == 1 else "their"
    warning = f": {whose} scores say nothing about unseen patients" if scored else ""
    return f"{name} saw {who} {whom} patients in training{warning}."


def _patient_hash(salt: str, entry: ScanEntry) -> str:
    return hashed(salt, "patient", entry.patient)


def _source_hash(salt: str, entry: ScanEntry) -> str:
    return hashed(salt, "source", entry.source_sha256)
