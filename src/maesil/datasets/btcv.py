"""BTCV, "Beyond the Cranial Vault": 30 labelled abdominal CT, portal venous contrast, 13 organs.

Get it: Synapse, syn3193805 (MICCAI 2015 multi-atlas labelling challenge, Abdomen), after registering there; its terms
of use apply, and it may not be passed on. Cases 0001-0010 and 0021-0040 have labels, 20 test cases have none.

Tree, as it comes, and as two widespread scripts rearrange the same files::

    RawData/Training/img/img0001.nii.gz         RawData/Training/label/label0001.nii.gz
    imagesTr/img0001.nii.gz                     labelsTr/label0001.nii.gz     dataset_0.json (MONAI's lists)
    imagesTr/img0001_0000.nii.gz                labelsTr/img0001.nii.gz       dataset.json   (nnU-Net's)

Known faults: slice spacing runs from 2.5 to 5 mm. MONAI's list calls six of the labelled cases "validation".
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, final

from maesil.datasets.labels import class_name
from maesil.datasets.layout import Layout, case_scan
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans, Problem, Scan

ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "portal vein and splenic vein", "pancreas", "right adrenal gland", "left adrenal gland",
)  # fmt: skip
"""Names of labels 1 to 13."""

_NAMES = {number: class_name(organ) for number, organ in enumerate(ORGANS, start=1)}
_CASE = re.compile(r"^img(\d{4})(?:_0000)?\.nii(?:\.gz)?$")
_PLACES = (("img", "label"), ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"))
_MONAI_SPLITS = {"training": "train", "validation": "val", "test": "test"}


@final
class BTCV(Layout):
    """The challenge's files, MONAI's arrangement of them, or nnU-Net's."""

    name = "btcv"
    dataset = "BTCV"
    region = "abdomen"

    def match(self, root: Path) -> str | None:
        """Folders of files called img0001.nii.gz."""
        folders = [folder for folder, _ in self._folders(root)]
        if not folders:
            return None
        count = sum(1 for folder in folders for path in folder.iterdir() if _CASE.match(path.name))
        where = ", ".join(folder.relative_to(root).as_posix() for folder in folders)
        return f"{count} files named img0000.nii.gz in {where}"

    def find(self, root: Path, naming: Naming) -> FoundScans:
        """The cases, their labels, and the lists of MONAI where they lie beside."""
        given = _given_splits(root)
        scans, notices, labels = list[Scan](), list[Problem](), 0
        for images, label_folder in self._folders(root):
            for path in sorted(images.iterdir()):
                found = _CASE.match(path.name)
                if not found:
                    continue
                case = f"img{found.group(1)}"
                label = _label_of(found.group(1), label_folder)
                labels += label is not None
                own = () if label is None else (label,)
                split = given.get(case)
                scans.append(
                    case_scan(path, case, "BTCV", naming, root=root, labels=own, split=split, label_names=_NAMES)
                )
                if label is None and images.name in ("img", "imagesTr") and label_folder.is_dir():
                    shown = path.relative_to(root).as_posix()
                    notices.append(Problem(shown, "it has no label file", "download the label folder again", path))
        return FoundScans(tuple(scans), (), labels, tuple(notices))

    def _folders(self, root: Path) -> list[tuple[Path, Path]]:
        """Folders of images with the folders of their labels."""
        homes = [root, root / "Training", root / "Testing", root / "RawData" / "Training", root / "RawData" / "Testing"]
        places = [(home / images, home / labels) for home in homes for images, labels in _PLACES]
        return [(images, labels) for images, labels in places if _holds_cases(images)]


def _holds_cases(folder: Path) -> bool:
    return folder.is_dir() and any(_CASE.match(path.name) for path in folder.iterdir())


def _label_of(number: str, folder: Path) -> Path | None:
    names = (f"{stem}{number}.nii{zipped}" for stem in ("label", "img") for zipped in (".gz", ""))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _given_splits(root: Path) -> dict[str, str]:
    """What MONAI's lists say of each case; nothing where there are none, or they are of another kind."""
    splits: dict[str, str] = {}
    for path in sorted(root.glob("dataset*.json")):
        try:
            lists = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(lists, dict) and "validation" in lists:
            splits |= {case: split for name, split in _MONAI_SPLITS.items() for case in _cases_of(lists.get(name))}
    return splits


def _cases_of(rows: Any) -> list[str]:
    images = [row.get("image", "") if isinstance(row, dict) else row for row in rows or ()]
    return [f"img{found.group(1)}" for image in images if (found := _CASE.match(Path(str(image)).name))]
