"""How scans get the names that a store keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maesil.datasets.salt import hashed

UNNAMED = "scans"
"""The dataset of scans whose folder's name must not be told, where none is given."""


@dataclass(frozen=True)
class Naming:
    """The choices behind names.

    Args:
        dataset: The collection's name; None: the source folder's.
        salt: Makes the hashes; a function is asked only where a hash is made.
        hash_names: Hash the names of volume files, too.
        patient_pattern: Regular expression that finds the patient in a path; see `patient_name`.
    """

    dataset: str | None = None
    salt: str | Callable[[], str] = ""
    hash_names: bool = False
    patient_pattern: str | None = None

    def hashed(self, kind: str, value: str) -> str:
        """The salted hash by which `value` is known."""
        return hashed(self.salt if isinstance(self.salt, str) else self.salt(), kind, value)
