"""Rules for the names of scans in a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maesil.datasets.harmless import harmless
from maesil.datasets.salt import hashed
from maesil.errors import ConfigError

UNNAMED = "scans"
"""Dataset name for scans whose folder name must not be shown, if none is given."""


Known = Callable[[str], str | None]


def unknown(scan_id: str) -> str | None:
    """No scan is known."""
    return None


@dataclass(frozen=True)
class Naming:
    """Settings that decide the names of scans.

    Args:
        dataset: Name of the collection; None: the source folder's name.
        salt: Secret that the hashes are made with; a function is called only if a hash is made.
        hash_names: Whether to hash the names of all volume files, public case names too.
        keep_names: Whether to keep the names of all volume files and folders, those that may name a patient too.
        patient_pattern: Regular expression that finds the patient in a path; see `patient_name`.
        known: Function from a scan's name to its dataset in the store or list that is continued, or to None: scans keep
            the names that they have there.

    Raises:
        ConfigError: Names are both to be hashed and to be kept.
    """

    dataset: str | None = None
    salt: str | Callable[[], str] = ""
    hash_names: bool = False
    keep_names: bool = False
    patient_pattern: str | None = None
    known: Known = unknown

    def __post_init__(self) -> None:
        if self.hash_names and self.keep_names:
            raise ConfigError("names can't be both hashed and kept", fix="leave out --hash-names or --keep-names")

    def shows(self, *names: str) -> bool:
        """Whether names of files or folders may stand in a store: they are recognisably harmless, or are to be kept."""
        return self.keep_names or all(map(harmless, names))

    def hashed(self, kind: str, value: str) -> str:
        """The salted hash that stands for `value`."""
        return hashed(self.salt if isinstance(self.salt, str) else self.salt(), kind, value)
