"""The interface of a layout: how a collection is arranged on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maesil.ct.readers import reader_of
from maesil.datasets.names import safe_name
from maesil.datasets.naming import UNNAMED, Naming
from maesil.datasets.scan import HASHED, FoundScans, Problem, Scan


@dataclass(frozen=True)
class CaseLabels:
    """The labels of one image.

    Attributes:
        files: Its label files, at least one.
        names: Map from number to structure, if the labels are one file of numbers that the collection names.
        notices: Notes on these names.
    """

    files: tuple[Path, ...]
    names: Mapping[int, str]
    notices: tuple[Problem, ...] = ()


class Layout(ABC):
    """The arrangement of files in which a collection is published.

    Subclasses are final and keep these promises, which `tests/contracts/test_layouts.py` checks for all of them:

    * `match` returns a description of what it found, or None; it opens no image and never raises.
    * `find` names scans by dataset and public case name, regardless of what else is found, and gives all scans of a
      patient the same patient name.
    * `labels_of` gives an image the segmentations that `find` gives it, whichever file or folder of the tree is given.
    * A case that cannot be used becomes a problem or a notice with a reason; it does not affect the others.
    * Files that `find` neither uses nor reports, and that the layout does not own, are reported by
      `maesil.datasets.leftovers`.
    * The module's docstring gives the source of the collection, its licence, its tree and its known faults.
    """

    name: str
    dataset: str | None
    """Name of the collection; None: the source folder's name."""
    region: str

    @abstractmethod
    def match(self, root: Path) -> str | None:
        """Why `root` is a tree of this layout; None if it is not."""

    @abstractmethod
    def find(self, root: Path, naming: Naming) -> FoundScans:
        """The scans of a matching tree."""

    def labels_of(self, image: Path) -> CaseLabels | None:
        """The labels of an image according to its own place and name; None if a tree of this layout has none for it.

        They are those that `find` gives it, for calls on a file or folder of the tree: nothing else of it is read.
        """
        return None

    def owns(self, root: Path, path: Path) -> bool:
        """Whether a file below `root` belongs to this layout by its place, although it is not a scan of its own.

        Label files need not be owned; anything else that may be a scan must be, or it is reported as left over.
        """
        return False


def case_scan(
    path: Path,
    case: str,
    collection: str,
    naming: Naming,
    *,
    root: Path,
    patient: str | None = None,
    labels: Sequence[Path] = (),
    split: str | None = None,
    label_names: Mapping[int, str] | None = None,
) -> Scan:
    """The scan of a volume file that is named by its collection; names that may be a patient's become hashes.

    Args:
        path: Path of the file.
        case: Public name of the case; folders in it are separated by "/".
        collection: Name of the collection.
        naming: Rules for names: a dataset name from the user takes precedence; names may have to be hashed.
        root: Source that holds the file.
        patient: Public name of the patient; None: that of the case.
        labels: Label files of the case.
        split: Split assigned by the collection.
        label_names: Map from number to structure, if the labels are one file of numbers.
    """
    named = tuple(sorted((label_names or {}).items())) if labels else ()
    files, relative = reader_of(path).files(path), path.relative_to(root)
    scan_id = safe_name(naming.dataset or safe_name(collection), *case.split("/"))
    patient_id, shown = safe_name(patient or case), relative.as_posix()
    names = (*(() if naming.dataset else (collection,)), *case.split("/"), *relative.parts)
    if not naming.hash_names and not naming.shows(*names, patient or case) and naming.known(scan_id) is not None:
        naming = replace(naming, keep_names=True)
    dataset = naming.dataset or (safe_name(collection) if naming.shows(collection) else UNNAMED)
    if naming.hash_names or not naming.shows(*names):
        scan_id = naming.hashed("scan", f"{collection}/{case}")
        shown = f"{HASHED}{scan_id}"
    if naming.hash_names or not naming.shows(patient or case):
        patient_id = naming.hashed("patient", patient or case)
    return Scan(scan_id, dataset, patient_id, path, None, files, shown, tuple(labels), split, named)
