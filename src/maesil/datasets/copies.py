"""Scans with the same bytes: under whatever names they come, they are of one patient."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from maesil.datasets.scan import Scan

GLANCE_BYTES = 2**16
"""Bytes from the middle of a scan that are compared before all of it is read: there is no padding, but a body."""


def fingerprint(files: Sequence[Path]) -> str:
    """sha256 of the files' contents, in their order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def copies_among(scans: Iterable[Scan]) -> tuple[tuple[Scan, ...], ...]:
    """The scans whose files have the same bytes, a group each, in the order given.

    Only files of the same sizes are opened, and only those that are alike in the middle are read as a whole. A scan
    that cannot be read is no copy.
    """
    groups = [tuple(scan for scan in scans if scan.files)]
    for key in (_sizes, _glance, fingerprint):
        groups = [alike for group in groups for alike in _alike(group, key)]
    return tuple(groups)


def same_patients(sources: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map from patient to the first name, in sorted order, of all patients who share the bytes of a scan with it.

    Args:
        sources: The patient of each scan, and what only scans with the same bytes have in common.
    """
    first: dict[str, str] = {}
    leader: dict[str, str] = {}

    def lead(patient: str) -> str:
        while leader.setdefault(patient, patient) != patient:
            patient = leader[patient]
        return patient

    for patient, source in sources:
        other = first.setdefault(source, patient)
        low, high = sorted((lead(other), lead(patient)))
        leader[high] = low
    return {patient: lead(patient) for patient in leader}


def _alike(scans: Sequence[Scan], key: Callable[[Sequence[Path]], Hashable]) -> list[tuple[Scan, ...]]:
    """The groups of two or more scans whose files have the same key."""
    groups: dict[Hashable, list[Scan]] = {}
    for scan in scans:
        try:
            groups.setdefault(key(scan.files), []).append(scan)
        except OSError:
            continue
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _sizes(files: Sequence[Path]) -> Hashable:
    return tuple(path.stat().st_size for path in files)


def _glance(files: Sequence[Path]) -> Hashable:
    path = files[len(files) // 2]
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size // 2 - GLANCE_BYTES // 2))
        return file.read(GLANCE_BYTES)
