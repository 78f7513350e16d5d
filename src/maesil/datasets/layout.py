"""How a collection lies on disk: what a layout promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from maesil.datasets.names import safe_name
from maesil.datasets.naming import Naming
from maesil.datasets.scan import HASHED, FoundScans, Scan
from maesil.datasets.volume_files import files_of


class Layout(ABC):
    """An arrangement of files that a collection is published in.

    Subclasses are final and keep these promises, which `tests/contracts/test_layouts.py` checks for all:

    * `match` says in words what it saw, or None; it opens no image and never raises.
    * `find` names scans by dataset and public case name, the same whatever else is found, and patients so that all
      scans of one share a name.
    * A case that cannot be used is a problem or a notice with its reason; the rest goes on.
    * What `find` neither uses nor tells of, and does not own, is told by `maesil.datasets.leftovers`.
    * The module's docstring says where to get the collection, under which licence, what its tree looks like, and its
      known faults.
    """

    name: str
    dataset: str | None
    """The collection's own name; None: the source folder's."""
    region: str

    @abstractmethod
    def match(self, root: Path) -> str | None:
        """What makes `root` a tree of this layout; None where it is not one."""

    @abstractmethod
    def find(self, root: Path, naming: Naming) -> FoundScans:
        """The scans of a tree that matched."""

    def owns(self, root: Path, path: Path) -> bool:
        """Whether a file below `root` belongs to a tree of this layout by its place, though it is no scan of its own.

        Label files need not be owned; everything else that may be a scan must be, or it is told as a stranger.
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
    """The scan of a volume file that its collection names.

    Args:
        path: The file.
        case: Its public name.
        collection: The collection's.
        naming: A dataset's name given by the user wins; names may have to be hashed.
        root: The source.
        patient: Public name of the patient; None: the case's.
        labels: Its label files.
        split: Where the collection puts it.
        label_names: Number to structure, where the labels are one file of numbers.
    """
    named = tuple(sorted((label_names or {}).items())) if labels else ()
    dataset = naming.dataset or collection
    scan_id, patient_id, shown = safe_name(dataset, case), safe_name(patient or case), path.relative_to(root).as_posix()
    if naming.hash_names:
        scan_id, patient_id = naming.hashed("scan", f"{collection}/{case}"), naming.hashed("patient", patient or case)
        shown = f"{HASHED}{scan_id}"
    return Scan(scan_id, dataset, patient_id, path, None, files_of(path), shown, tuple(labels), split, named)
