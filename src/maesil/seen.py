"""Whom a training saw, told without a name, so that a later test can say how many of its patients were among them.

A checkpoint carries a fresh salt and, under it, two kinds of hashes: of its training patients' names, as their store
holds them, and of its training scans' fingerprints (sha256 of the files that they were made of). A patient counts as
seen where the name is among them, or the source of one of the patient's scans.

What this notices:

* patients of the store that was trained on;
* the same files in any other store: under other names, another salt, another spacing;
* other scans of a patient whom both stores call alike. Public case names do that, and so do patients of DICOM files,
  whose names are hashes under a salt of the user's own, which is the same for all stores of one user.

What it cannot notice:

* other scans of a patient whom two stores call differently: names under two salts, or two public names;
* a source that was rewritten (DICOM made into NIfTI, a file compressed anew), where the name differs, too;
* patients who chose a checkpoint (validation) and taught nothing.

Two collections that call two patients alike ("case_0001") count them as one, as splits do: rather one too many.

The salt stands beside the hashes. So they hide names from those who read the checkpoint, and do not keep those who know
a name or have a file from asking for it; where a store's names are hashes themselves, that needs the store's salt, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from maesil.datasets.salt import hashed
from maesil.store.scanstore import ScanEntry

SALT_BYTES = 16


def trained_on(scans: Iterable[ScanEntry]) -> dict[str, Any]:
    """What a checkpoint keeps of those it was trained on: salt, hashes of patients, hashes of sources.

    Args:
        scans: Those that taught; none where nothing was trained.
    """
    salt, known = secrets.token_hex(SALT_BYTES), list(scans)
    return {
        "salt": salt,
        "patients": sorted({_patient_hash(salt, entry) for entry in known}),
        "sources": sorted({_source_hash(salt, entry) for entry in known}),
    }


def seen_patients(record: Mapping[str, Any] | None, scans: Iterable[ScanEntry]) -> frozenset[str] | None:
    """The patients of these scans whom a training saw, by name or by the source of one of their scans.

    Args:
        record: As `trained_on` makes it; None: of a checkpoint from before there was one.
        scans: Of any store.

    Returns:
        Their names in these scans' store; None where the checkpoint does not say whom it was trained on.
    """
    if record is None:
        return None
    salt, patients, sources = str(record["salt"]), set(record["patients"]), set(record["sources"])
    return frozenset(
        entry.patient
        for entry in scans
        if _patient_hash(salt, entry) in patients or _source_hash(salt, entry) in sources
    )


def seen_note(
    record: Mapping[str, Any] | None, scans: Iterable[ScanEntry], *, by: str = "the encoder", whom: str = "test"
) -> str:
    """How many patients of these scans a training saw, in a sentence for below a table.

    Args:
        record: As `trained_on` makes it; None: the checkpoint has none.
        scans: Those that are scored.
        by: What was trained.
        whom: What the patients are here.
    """
    entries = list(scans)
    seen, total = seen_patients(record, entries), len({entry.patient for entry in entries})
    if record is None or seen is None:
        return "The checkpoint does not say whom it was trained on."
    if not record["patients"]:
        return f"{by[0].upper()}{by[1:]} was trained on nobody: it starts from random weights."
    if not seen:
        who = f"The {whom} patient was not" if total == 1 else f"None of the {total} {whom} patients was"
        return f"{who} seen in pre-training, by name or source."
    if total == 1:
        return f"The {whom} patient was trained on by {by}: the score is no measure of unseen patients."
    who = f"All {total}" if len(seen) == total else f"{len(seen)} of the {total}"
    verb, whose = ("was", "the patient's") if len(seen) == 1 else ("were", "their")
    return f"{who} {whom} patients {verb} trained on by {by}: {whose} scores are no measure of unseen patients."


def _patient_hash(salt: str, entry: ScanEntry) -> str:
    return hashed(salt, "patient", entry.patient)


def _source_hash(salt: str, entry: ScanEntry) -> str:
    return hashed(salt, "source", entry.source_sha256)
