"""BTCV, "Beyond the Cranial Vault": 30 labelled abdominal CT, portal venous contrast, 13 organs.

Get it: Synapse, syn3193805 (MICCAI 2015 multi-atlas labelling challenge, Abdomen), after registration; its terms of
use apply, and it may not be redistributed. Cases 0001-0010 and 0021-0040 have labels, 20 test cases have none.

Tree, as downloaded, and as two widely used scripts rearrange the same files::

    RawData/Training/img/img0001.nii.gz         RawData/Training/label/label0001.nii.gz
    imagesTr/img0001.nii.gz                     labelsTr/label0001.nii.gz     dataset_0.json (MONAI's lists)
    imagesTr/img0001_0000.nii.gz                labelsTr/img0001.nii.gz       dataset.json   (nnU-Net's)

The challenge's own test cases, in `Testing` or `imagesTs`, are the test split; MONAI's lists override the folder.

Known faults: slice spacing ranges from 2.5 to 5 mm. MONAI's list calls six of the labelled cases "validation".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, final

from maesil.counts import count_of
from maesil.datasets.labels import class_name, without_image
from maesil.datasets.layout import CaseLabels, Layout, case_scan
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.errors import reason
from maesil.walk import files_in

ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "portal vein and splenic vein", "pancreas", "right adrenal gland", "left adrenal gland",
)  # fmt: skip
"""Names of labels 1 to 13."""

_NAMES = {number: class_name(organ) for number, organ in enumerate(ORGANS, start=1)}
_CASE = re.compile(r"^img(\d{4})(?:_0000)?\.nii(?:\.gz)?$")
_PLACES = (("img", "label", None), ("imagesTr", "labelsTr", None), ("imagesTs", "labelsTs", "test"))
"""Folders of images and of labels, and the split that they stand for."""

_MONAI_SPLITS = {"training": "train", "validation": "val", "test": "test"}


@final
class BTCV(Layout):
    """The challenge's files, MONAI's arrangement of them, or nnU-Net's."""

    name = "btcv"
    dataset = "BTCV"
    region = "abdomen"

    def match(self, root: Path) -> str | None:
        """Matches folders of files named img0001.nii.gz."""
        folders = [folder for folder, _, _ in self._folders(root)]
        if not folders:
            return None
        count = sum(1 for folder in folders for path in files_in(folder) if _CASE.match(path.name))
        where = ", ".join(folder.relative_to(root).as_posix() for folder in folders)
        return f"{count_of(count, 'file')} named img0000.nii.gz in {where}"

    def find(self, root: Path, naming: Naming) -> FoundScans:
        """The cases, their labels, and the splits in MONAI's lists if these lie next to them."""
        given, notices = _given_splits(root)
        scans = list[Scan]()
        for images, label_folder, split in self._folders(root):
            unlabelled = list[Path]()
            for path in files_in(images):
                found = _CASE.match(path.name)
                if not found:
                    continue
                case = f"img{found.group(1)}"
                label = _label_of(found.group(1), label_folder)
                own = () if label is None else (label,)
                own_split = given.get(case, split)
                scans.append(
                    case_scan(path, case, "BTCV", naming, root=root, labels=own, split=own_split, label_names=_NAMES)
                )
                if label is None and split is None:
                    unlabelled.append(path)
            notices += _unlabelled(unlabelled, label_folder, root)
            notices += without_image(label_folder, (label for scan in scans for label in scan.labels), root)
        if absent := sorted(given.keys() - {_case_of(scan) for scan in scans}):
            count = count_of(len(absent), "case of MONAI's list is", "cases of MONAI's list are")
            reason = f"{count} missing: {', '.join(absent)}"
            notices.append(Problem(".", reason, "download them again", root))
        return FoundScans(tuple(scans), (), sum(len(scan.labels) for scan in scans), tuple(notices))

    def labels_of(self, image: Path) -> CaseLabels | None:
        """The label file in the folder beside that of the images."""
        found = _CASE.match(image.name)
        folder = next((labels for images, labels, _ in _PLACES if images == image.parent.name), None)
        if found is None or folder is None:
            return None
        label = _label_of(found.group(1), image.parent.parent / folder)
        return None if label is None else CaseLabels((label,), _NAMES)

    def _folders(self, root: Path) -> list[tuple[Path, Path, str | None]]:
        """Folders of images, the folders of their labels, and the split that the collection assigns to them."""
        places = [
            (root / home / images, root / home / labels, "test" if "Testing" in home else split)
            for home in ("", "Training", "Testing", "RawData/Training", "RawData/Testing")
            for images, labels, split in _PLACES
        ]
        return [place for place in places if _holds_cases(place[0])]


def _case_of(scan: Scan) -> str:
    """The public name of the case, whatever the name of the scan."""
    found = _CASE.match(scan.path.name)
    assert found is not None
    return f"img{found.group(1)}"


def _unlabelled(images: Sequence[Path], labels: Path, root: Path) -> list[Problem]:
    """One problem per case without a label, or a single one if the whole folder of labels is missing."""
    if images and not labels.is_dir():
        reason = f"this folder is missing: {count_of(len(images), 'case has', 'cases have')} no label file"
        return [Problem(labels.relative_to(root).as_posix(), reason, "download the label folder", labels)]
    fix = "download the label folder again"
    return [Problem(path.relative_to(root).as_posix(), "it has no label file", fix, path) for path in images]


def _holds_cases(folder: Path) -> bool:
    return any(_CASE.match(path.name) for path in files_in(folder))


def _label_of(number: str, folder: Path) -> Path | None:
    names = (f"{stem}{number}.nii{zipped}" for stem in ("label", "img") for zipped in (".gz", ""))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _given_splits(root: Path) -> tuple[dict[str, str], list[Problem]]:
    """The split of each case in MONAI's lists; empty if there are none, or they have another format."""
    splits: dict[str, str] = {}
    reported = list[Problem]()
    for path in (path for path in files_in(root) if fnmatch(path.name, "dataset*.json")):
        try:
            lists = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            reported.append(Problem(path.name, f"it cannot be read: {reason(error)}", "its splits are not used", path))
            continue
        if isinstance(lists, dict) and "validation" in lists:
            splits |= {case: split for name, split in _MONAI_SPLITS.items() for case in _cases_of(lists.get(name))}
    return splits, reported


def _cases_of(rows: Any) -> list[str]:
    listed = rows if isinstance(rows, list) else []
    images = [row.get("image", "") if isinstance(row, dict) else row for row in listed]
    return [f"img{found.group(1)}" for image in images if (found := _CASE.match(Path(str(image)).name))]
