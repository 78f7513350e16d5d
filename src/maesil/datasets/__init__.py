"""Scans on disk: finding them, naming them without naming the patient, splitting them by patient."""

from maesil.datasets.folder import FoundScans, Problem, find_scans
from maesil.datasets.salt import kept_salt
from maesil.datasets.scan import Scan
from maesil.datasets.splits import SPLITS, SplitConfig, split_of

__all__ = ["SPLITS", "FoundScans", "Problem", "Scan", "SplitConfig", "find_scans", "kept_salt", "split_of"]
