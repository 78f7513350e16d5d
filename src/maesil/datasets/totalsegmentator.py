"""TotalSegmentator: CT of all regions of the body at 1.5 mm, a mask per structure.

Get it: Zenodo, v1 10.5281/zenodo.6802614 (1,204 scans, 104 structures) or v2 10.5281/zenodo.8367088 (1,228 scans, 117
structures); CC BY 4.0 (Wasserthal et al. 2023).

Tree::

    s0000/ct.nii.gz    s0000/segmentations/*.nii.gz    meta.csv (";" between columns; image_id, split, ...)

`meta.csv` divides the scans into train, val and test; this split is used, and can be overridden.

Known faults: the paper's 1,204 scans and 104 classes are those of version 1, but it cites version 2. A scan shows any
part of the body, so most masks are empty in most scans.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from pathlib import Path
from typing import final

from maesil.counts import count_of, some_of
from maesil.datasets.labels import STRUCTURES
from maesil.datasets.layout import CaseLabels, Layout, case_scan
from maesil.datasets.names import stem_of
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.datasets.splits import SPLITS
from maesil.walk import files_in, folders_in

VERSIONS = {104: "v1", 117: "v2"}
"""Map from the number of structures with a mask to the release."""

_CASE = re.compile(r"^s\d{4}$")
_IMAGES = ("ct.nii.gz", "ct.nii")
_NAMED = 3


@final
class TotalSegmentator(Layout):
    """Folders s0000, each with ct.nii.gz and a mask per structure."""

    name = "totalsegmentator"
    dataset = "TotalSegmentator"
    region = "any"

    def match(self, root: Path) -> str | None:
        """Matches case folders with a ct.nii.gz, and masks or a meta.csv: a name like s0001 alone is not enough."""
        cases = [folder for folder in _case_folders(root) if _image(folder)]
        if not cases or not ((root / "meta.csv").is_file() or any(map(_masks, cases))):
            return None
        counts = sorted({len(_masks(folder)) for folder in cases[:20]})
        version = VERSIONS.get(counts[-1], "of no known release")
        masks = (
            f"{count_of(counts[-1], 'mask')} each"
            if len(counts) == 1
            else f"{counts[0]} to {count_of(counts[-1], 'mask')}"
        )
        table = ", meta.csv" if (root / "meta.csv").is_file() else ""
        return f"{count_of(len(cases), 'folder')} s0000 with ct.nii.gz, {masks}: {version}{table}"

    def find(self, root: Path, naming: Naming) -> FoundScans:
        """The cases; those without an image, masks or a row in meta.csv are reported."""
        given, notices = _given_splits(root)
        scans, problems, labels = list[Scan](), list[Problem](), 0
        folders = _case_folders(root)
        named = {folder.name: {path.name for path in _masks(folder)} for folder in folders}
        every = set[str]().union(*named.values())
        fullest = max(named, key=lambda name: len(named[name]), default="")
        for folder in folders:
            image, masks = _image(folder), _masks(folder)
            labels += len(masks)
            if image is None:
                problems.append(Problem(folder.name, "it has no ct.nii.gz", "unpack the archive again", folder))
                continue
            if not masks:
                notices.append(Problem(folder.name, "it has no masks in segmentations/", "unpack again", folder))
            elif missing := every - named[folder.name]:
                fix = f"unpack the archive again; {fullest} has the most masks to compare with"
                notices.append(Problem(folder.name, _lacks(missing), fix, folder))
            if given and folder.name not in given:
                notices.append(Problem(folder.name, "meta.csv does not list it", "its split is drawn", folder))
            split = given.get(folder.name)
            scans.append(
                case_scan(image, folder.name, "TotalSegmentator", naming, root=root, labels=masks, split=split)
            )
        return FoundScans(tuple(scans), tuple(problems), labels, tuple(notices))

    def labels_of(self, image: Path) -> CaseLabels | None:
        """The masks of the case folder."""
        is_case = image.name in _IMAGES and _CASE.match(image.parent.name)
        masks = _masks(image.parent) if is_case else []
        return CaseLabels(tuple(masks), {}) if masks else None


def _case_folders(root: Path) -> list[Path]:
    return [path for path in folders_in(root) if _CASE.match(path.name)]


def _image(folder: Path) -> Path | None:
    return next((folder / name for name in _IMAGES if (folder / name).is_file()), None)


def _masks(folder: Path) -> list[Path]:
    return [path for path in files_in(folder / STRUCTURES) if ".nii" in path.name]


def _lacks(names: Collection[str]) -> str:
    """A message that lists masks which other cases have and this one lacks."""
    listed = some_of([stem_of(name) for name in sorted(names)], _NAMED)
    return f"it lacks {len(names)} of the masks that others have: {listed}"


def _given_splits(root: Path) -> tuple[dict[str, str], list[Problem]]:
    """Map from case to split, from meta.csv; if it cannot be read, this is reported and splits are drawn."""
    path = root / "meta.csv"
    if not path.is_file():
        return {}, []
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), delimiter=";" if ";" in text.partition("\n")[0] else ","))
        splits = {row["image_id"].strip(): row["split"].strip().lower() for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError):
        fix = "download it again; until then splits are drawn"
        return {}, [Problem("meta.csv", "it has no columns image_id and split", fix, path)]
    strange = sorted(set(splits.values()) - set(SPLITS))
    fix = "splits of these cases are drawn"
    reported = [Problem("meta.csv", f"unknown split '{name}'", fix, path) for name in strange]
    return {case: split for case, split in splits.items() if split in SPLITS}, reported
