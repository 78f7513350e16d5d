"""Rules for the names of scans in a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maesil.datasets.salt import hashed

UNNAMED = "scans"
"""Dataset name for scans whose folder name must not be shown, if none is given."""


@dataclass(frozen=True)
class Naming:
    """Settings that decide the names of scans.

    Args:
        dataset: Name of the collection; None: the source folder's name.
        salt: Secret that the hashes are made with; a function is called only if a hash is made.
        hash_names: Whether to hash the names of volume files too.
        patient_pattern: Regular expression that finds the patient in a path; see `patient_name`.
    """

    dataset: str | None = None
    salt: str | Callable[[], str] = ""
    hash_names: bool = False
    patient_pattern: str | None = None

    def hashed(self, kind: str, value: str) -> str:
        """The salted hash that stands for `value`."""
        return hashed(self.salt if isinstance(self.salt, str) else self.salt(), kind, value)
