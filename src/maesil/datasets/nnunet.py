"""nnU-Net's raw data: any segmentation dataset that was converted to its format.

Tree::

    dataset.json    imagesTr/CASE_0000.nii.gz    labelsTr/CASE.nii.gz    imagesTs/CASE_0000.nii.gz

Channels beyond the first (CASE_0001) belong to the same case and are not separate CT: they are skipped and
counted. Cases in `imagesTs` are the collection's test split. A dataset whose first channel is not CT is refused.
Regions (labels that stand for several numbers) are not read, and reported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, final

from maesil.counts import count_of
from maesil.ct.readers import volume_endings
from maesil.datasets.labels import (
    class_names,
    entries_in,
    merged_names,
    merged_text,
    regions_in,
    unused_entries,
    without_image,
)
from maesil.datasets.layout import CaseLabels, Layout, case_scan
from maesil.datasets.names import ending_of, safe_name, stem_of
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.walk import files_in

_CASE = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
_FOLDERS = (("imagesTr", "labelsTr", None), ("imagesTs", "labelsTs", "test"))


@final
class NNUNet(Layout):
    """dataset.json with imagesTr/CASE_0000.nii.gz."""

    name = "nnunet"
    dataset = None
    region = "as named"

    def match(self, root: Path) -> str | None:
        """Matches a dataset.json with channels in imagesTr."""
        images = root / "imagesTr"
        if not (root / "dataset.json").is_file() or not images.is_dir():
            return None
        count = len(_channels(images, "0000"))
        return f"dataset.json, {count_of(count, 'case')} CASE_0000 in imagesTr" if count else None

    def owns(self, root: Path, path: Path) -> bool:
        """True for every channel of a case."""
        return path.parent in (root / "imagesTr", root / "imagesTs") and _channel(path) is not None

    def find(self, root: Path, naming: Naming) -> FoundScans:
        """The first channel of every case, with its label."""
        described, notices = _describe(root)
        channel = _first_channel(described)
        if channel is not None and "ct" not in channel.lower():
            fix = "give a CT dataset; if the images are CT after all, give their folder with --layout folder"
            return FoundScans((), (Problem("dataset.json", f"channel 0 is {channel}, not CT", fix, root),), 0)
        names, remarks = _names(described, root)
        notices += remarks
        collection = safe_name(str(described.get("name") or root.name))
        scans = list[Scan]()
        for images, label_folder, split in _FOLDERS:
            for path in _channels(root / images, "0000"):
                case = _case(path)
                label = _label_of(root / label_folder, case)
                own = () if label is None else (label,)
                scans.append(
                    case_scan(path, case, collection, naming, root=root, labels=own, split=split, label_names=names)
                )
                if label is None and split is None:
                    shown = path.relative_to(root).as_posix()
                    notices.append(Problem(shown, "it has no label file", f"look into {label_folder}", path))
        used = [label for scan in scans for label in scan.labels]
        notices += _other_channels(root)
        notices += [problem for _, folder, _ in _FOLDERS for problem in without_image(root / folder, used, root)]
        return FoundScans(tuple(scans), (), len(used), tuple(notices))

    def labels_of(self, image: Path) -> CaseLabels | None:
        """The label file of the case in the folder beside that of the images, if a dataset.json is there."""
        root = image.parent.parent
        folder = next((labels for images, labels, _ in _FOLDERS if images == image.parent.name), None)
        described = root / "dataset.json"
        if folder is None or _channel(image) != "0000" or not described.is_file():
            return None
        label = _label_of(root / folder, _case(image))
        if label is None:
            return None
        written = described.stat()
        return CaseLabels((label,), *_names_as_written(root, written.st_mtime_ns, written.st_size))


def _case(image: Path) -> str:
    return stem_of(image.name)[:-5]


def _names(described: Mapping[str, Any], root: Path) -> tuple[dict[int, str], list[Problem]]:
    """The names of label numbers, and problems about names that are one class and about regions, if there are any."""
    labelled = described.get("labels")
    if not isinstance(labelled, dict):
        return {}, []
    entries, path = entries_in(labelled), root / "dataset.json"
    merged = merged_names(entries.names.values())
    problems = unused_entries(entries, path)
    problems += [Problem("dataset.json", merged_text(merged), "", path)] if merged else []
    if regions := regions_in(labelled):
        fix = "name their numbers with --label-names; numbers of one name become one structure"
        what = f"its labels of several numbers are not read: {', '.join(regions)}"
        problems.append(Problem("dataset.json", what, fix, path))
    return class_names(entries.names), problems


@lru_cache(maxsize=8)
def _names_as_written(root: Path, time_ns: int, size: int) -> tuple[Mapping[int, str], tuple[Problem, ...]]:
    """The names of label numbers and problems, read once for the cases of a tree until dataset.json is changed."""
    described, notices = _describe(root)
    names, remarks = _names(described, root)
    return names, (*notices, *remarks)


def _channels(folder: Path, number: str | None = None) -> list[Path]:
    return [path for path in files_in(folder) if (found := _channel(path)) is not None and number in (None, found)]


def _other_channels(root: Path) -> list[Problem]:
    count = sum(_channel(path) != "0000" for images, _, _ in _FOLDERS for path in _channels(root / images))
    what = count_of(count, "file of a further channel was", "files of further channels were")
    return [Problem(".", f"{what} skipped", "", root)] if count else []


def _channel(path: Path) -> str | None:
    found = _CASE.match(stem_of(path.name)) if ending_of(path.name) else None
    return found.group("channel") if found else None


def _label_of(folder: Path, case: str) -> Path | None:
    return next((path for end in volume_endings() if (path := folder / f"{case}{end}").is_file()), None)


def _describe(root: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The content of dataset.json; if it cannot be read, it is empty and a problem is reported."""
    path = root / "dataset.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        described, why = None, str(error)
    else:
        why = "it is not a JSON object"
    if isinstance(described, dict):
        return described, []
    fix = "download it again; until then the cases count as CT, and their labels have no names"
    return {}, [Problem(path.name, f"it cannot be read: {why}", fix, path)]


def _first_channel(described: dict[str, Any]) -> str | None:
    channels = described.get("channel_names") or described.get("modality")
    return str(channels["0"]) if isinstance(channels, dict) and "0" in channels else None
