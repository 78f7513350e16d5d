"""Scans on disk: how to find them, name them without naming the patient, and split them by patient."""

from maesil.datasets.find import find_scans
from maesil.datasets.salt import kept_salt, salt_check
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.datasets.splits import SPLITS, SplitConfig, divide, split_of

__all__ = [
    "SPLITS",
    "FoundScans",
    "Problem",
    "Scan",
    "SplitConfig",
    "divide",
    "find_scans",
    "kept_salt",
    "salt_check",
    "split_of",
]
