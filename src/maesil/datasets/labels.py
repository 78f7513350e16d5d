"""Which structures a scan's label files mark: one file of numbers, or a file per structure."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from maesil.counts import count_of, some_of
from maesil.datasets.names import NAMED, ending_of, stem_of
from maesil.datasets.scan import Problem, Scan
from maesil.errors import ConfigError, reason
from maesil.walk import files_in, names_in

STRUCTURES = "segmentations"
"""TotalSegmentator's folder of a case in which every file is named after the structure that it marks."""

_UNSAFE = re.compile(r"[^a-z0-9]+")
_SUFFIX = re.compile(r"[._-](labels?|tumou?r|mask|seg|segmentation|gt)$", re.IGNORECASE)


def class_name(text: str) -> str:
    """A structure's name in its standard form: lower case, underscores."""
    return _UNSAFE.sub("_", text.strip().lower()).strip("_")


def unnamed_label(number: int) -> str:
    """The name of a structure of which only the number is known."""
    return f"label_{number}"


def image_files(labels: Sequence[Path]) -> tuple[Path, ...]:
    """The label files of a scan that hold voxels; a reader's XML does not."""
    return tuple(path for path in labels if ending_of(path.name))


def file_of_numbers(scan: Scan) -> Path | None:
    """The one file with all labels of a scan; None if it has none, or a file per structure."""
    files = image_files(scan.labels)
    return files[0] if len(files) == 1 and files[0].parent.name != STRUCTURES else None


def unclaimed_text(files: Sequence[Path | str]) -> str:
    """Which files were taken for labels and belong to no scan, and what to do if one is a CT."""
    return (
        f"{count_of(len(files), 'file')} taken for labels because of the name, folder or header, without a scan: "
        f"{some_of(list(map(str, files)), NAMED)}; rename a CT among them, or give it as the only file of a call"
    )


def given_labels_text(files: Sequence[Path | str]) -> str:
    """Which of the files that were given were taken for labels."""
    taken = "was taken for labels, not for a scan" if len(files) == 1 else "were taken for labels, not for scans"
    return f"{len(files):,} of the given files {taken}: {some_of(list(map(str, files)), NAMED)}"


def labels_by_scan(candidates: Iterable[Path]) -> dict[tuple[Path, str], tuple[Path, ...]]:
    """Map from a scan's `label_key` to its label files in a plain folder: its name with a suffix, scan_labels.nii.gz.

    Candidates without such a suffix are left out.
    """
    found: dict[tuple[Path, str], list[Path]] = {}
    for path in candidates:
        if (stem := _labelled_stem(path)) is not None:
            found.setdefault((path.parent, stem), []).append(path)
    return {key: tuple(paths) for key, paths in found.items()}


def label_key(scan: Path) -> tuple[Path, str]:
    """What label files of a scan's own name are found by: its folder, and its name in lower case without the ending."""
    return scan.parent, stem_of(scan.name).lower()


LabelsBeside = Callable[[Path], tuple[Path, ...]]
"""The label files of a scan that is given as a file, of which the folder was not looked through."""


def labels_beside() -> LabelsBeside:
    """A function that lists each folder once, however many of its scans are given one by one."""

    @cache
    def by_scan(folder: Path) -> dict[tuple[Path, str], tuple[Path, ...]]:
        return labels_by_scan(folder / name for name in names_in(folder) if ending_of(name))

    return lambda scan: tuple(path for path in by_scan(scan.parent).get(label_key(scan), ()) if path.is_file())


def _labelled_stem(path: Path) -> str | None:
    """The name, in lower case, of the scan whose labels a file holds according to its suffix; None without one."""
    stem = stem_of(path.name)
    found = _SUFFIX.search(stem)
    return stem[: found.start()].lower() if found else None


def classes_of(scan: Scan) -> frozenset[str] | None:
    """The structures that a scan's labels mark, according to the names of their numbers or files.

    None if no name tells them: only the voxels of a file say which numbers are in it. A reader's XML marks nodules, one
    structure.
    """
    if scan.label_names:
        return frozenset(name for _, name in scan.label_names)
    if file_of_numbers(scan) is not None:
        return None
    if files := image_files(scan.labels):
        return frozenset(
            structure_of(path, scan) or unnamed_label(place) for place, path in enumerate(sorted(files), start=1)
        )
    return frozenset({"nodule"} if scan.labels else ())


def without_image(folder: Path, used: Iterable[Path], root: Path) -> list[Problem]:
    """One problem for each label file of a folder that no scan uses."""
    known = set(used)
    return [
        Problem(path.relative_to(root).as_posix(), "no image here has this label", "download the images again", path)
        for path in files_in(folder)
        if ending_of(path.name) and not path.name.startswith(".") and path not in known
    ]


def structure_of(path: Path, scan: Scan) -> str | None:
    """The structure that the name of one of a scan's label files says; None if it says none.

    In TotalSegmentator's tree it is all of the name: `liver` for segmentations/liver.nii.gz. Elsewhere it is the suffix
    alone, as the rest is the scan's own name, which may be a patient's: `tumour` for scan_tumour.nii.gz.
    """
    stem = stem_of(path.name)
    if path.parent == scan.path.parent / STRUCTURES:
        return class_name(stem)
    found = _SUFFIX.search(stem)
    return class_name(found.group(1)) if found else None


def read_names(path: Path) -> dict[int, str]:
    """Reads the names of label numbers, in their standard form, from a file; see `read_entries`."""
    return class_names(read_entries(path).names)


@dataclass(frozen=True)
class Entries:
    """What a file or a collection says about label numbers.

    Attributes:
        names: Map from number to name, as it is spelled.
        unused: Entries that give no number a name, as they are written; the background is none of them.
    """

    names: dict[int, str]
    unused: tuple[str, ...] = ()


def read_entries(path: Path) -> Entries:
    """Reads the names of label numbers from a file.

    Args:
        path: File in JSON, {"1": "liver", ...} or nnU-Net's {"labels": {"liver": 1, ...}}; or CSV with a column of
            numbers (id, label or index) and one of names (name or structure).

    Raises:
        ConfigError: The file cannot be read, has neither format, has a number without a name, or has nnU-Net's regions
            of several numbers.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fix = "check the file and its permissions, or give another with --label-names"
        raise ConfigError(f"the label names cannot be read: {reason(error)}", where=path, fix=fix) from error
    entries = _from_json(text, path) if path.suffix.lower() == ".json" else _from_csv(text, path)
    if not entries.names:
        fix = 'use JSON such as {"1": "liver"}, or CSV with the columns id and name'
        raise ConfigError("this file names no labels", where=path, fix=fix)
    return entries


def unused_entries(entries: Entries, path: Path) -> list[Problem]:
    """A note on the entries of a file that give no number a name, if there are any."""
    if not entries.unused:
        return []
    what = f"it has entries that give no label number a name: {some_of(entries.unused, NAMED)}"
    fix = 'write a whole number above 0 and a name with a letter or digit, such as "1": "liver"'
    return [Problem(path.name, what, fix, path)]


def class_names(spelled: Mapping[int, str]) -> dict[int, str]:
    """Names of label numbers in their standard form.

    Names without a letter or digit of ASCII are left out: their numbers have no name.
    """
    return {number: name for number, text in spelled.items() if (name := class_name(text))}


def entries_in(described: Mapping[str, object]) -> Entries:
    """The entries of a JSON object that maps label numbers to names, or names to numbers.

    Names without a letter or digit of ASCII are unused. Lists, nnU-Net's regions, are left to `regions_in`.
    """
    names, unused = dict[int, str](), list[str]()
    for key, value in described.items():
        number, name = (key, value) if str(key).isdecimal() else (value, key)
        is_number = isinstance(number, int | str) and str(number).isdecimal()
        if is_number and isinstance(name, str) and class_name(name) and int(str(number)):
            names[int(str(number))] = name
        elif not (is_number and not int(str(number))) and not isinstance(value, list):
            unused.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return Entries(names, tuple(unused))


def merged_names(spelled: Iterable[str]) -> list[str]:
    """Names that differ only in spelling, in words, a text for each class that they become."""
    groups: dict[str, list[str]] = {}
    for name in sorted({name.strip() for name in spelled}):
        groups.setdefault(class_name(name), []).append(name)
    return [f"{', '.join(names)} ({one})" for one, names in sorted(groups.items()) if one and len(names) > 1]


def merged_text(merged: Sequence[str]) -> str:
    """Which names become one class, of the texts from `merged_names`."""
    return f"label names that differ only in spelling are one class: {some_of(merged, NAMED)}"


def spelled_structures(scan: Scan) -> list[str]:
    """The structures that the names of a scan's label files spell, in a folder with a file for each."""
    return [stem_of(path.name) for path in scan.labels if path.parent == scan.path.parent / STRUCTURES]


def regions_in(described: Mapping[str, object]) -> tuple[str, ...]:
    """The names that stand for several numbers each, as nnU-Net's regions do; `entries_in` leaves them out."""
    return tuple(str(key) for key, value in described.items() if isinstance(value, list))


def _from_json(text: str, path: Path) -> Entries:
    try:
        described = json.loads(text)
    except ValueError as error:
        fix = 'write JSON such as {"1": "liver", "2": "spleen"}'
        raise ConfigError(f"the label names are not JSON: {error}", where=path, fix=fix) from error
    inner = described.get("labels", described) if isinstance(described, dict) else {}
    if not isinstance(inner, dict):
        return Entries({})
    if regions := regions_in(inner):
        fix = "give each of their numbers one name; numbers of one name become one structure"
        raise ConfigError(f"labels of several numbers are not read: {', '.join(regions)}", where=path, fix=fix)
    return entries_in(inner)


def _from_csv(text: str, path: Path) -> Entries:
    table = csv.DictReader(text.splitlines())
    columns = set(table.fieldnames or ())
    number = next((name for name in ("id", "label", "index", "number") if name in columns), None)
    named = next((name for name in ("name", "structure", "class") if name in columns), None)
    if number is None or named is None:
        return Entries({})
    found, unused = dict[int, str](), list[str]()
    for row in table:
        if not (row[number] or "").isdecimal():
            unused.append(f"line {table.line_num}, {number} {row[number] or 'empty'}")
            continue
        if not int(row[number]):
            continue
        if not (row[named] or "").strip():
            fix = f"add the name in the column '{named}', or leave the line out"
            raise ConfigError(f"line {table.line_num} has the number {row[number]}, but no name", where=path, fix=fix)
        if class_name(row[named]):
            found[int(row[number])] = row[named]
        else:
            unused.append(f"line {table.line_num}, {named} {row[named]}")
    return Entries(found, tuple(unused))
