"""What a file's place says about it: whether it holds labels, and the public name of its case."""

from __future__ import annotations

import re
from pathlib import PurePath

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
GENERIC_STEMS = frozenset({"ct", "image", "img", "volume", "scan", "imaging", "data"})
"""File names that say nothing: the case is then named by the folder (s0001/ct.nii.gz)."""

_LABEL_STEM = re.compile(
    r"^(mask|masks|label|labels|seg|segmentation)$|^label\d+$|[._-](labels?|tumou?r|mask|seg|segmentation|gt)$",
    re.IGNORECASE,
)
_LABEL_FOLDER = re.compile(r"^(labels?|labels?[-_]?(tr|ts|va|val|train|test)|masks?|segmentations?)$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def ending_of(name: str) -> str | None:
    """The ending of a volume file's name, or None for any other file."""
    return next((ending for ending in VOLUME_ENDINGS if name.lower().endswith(ending)), None)


def stem_of(name: str) -> str:
    """The file's name without the ending of its format."""
    return name[: -len(ending_of(name) or "")] if ending_of(name) else name


def holds_labels(relative: PurePath) -> bool:
    """Whether a path below a source is that of labels, by its name or one of its folders'."""
    in_folder = any(_LABEL_FOLDER.match(part) for part in relative.parts[:-1])
    return in_folder or bool(_LABEL_STEM.search(stem_of(relative.name)))


def case_parts(relative: PurePath) -> tuple[str, ...]:
    """The parts that name a case, generic file names left out: (s0001,) of s0001/ct.nii.gz, () of ct.nii.gz."""
    stem = stem_of(relative.name)
    return relative.parts[:-1] if stem.lower() in GENERIC_STEMS else (*relative.parts[:-1], stem)


def safe_name(*parts: str) -> str:
    """The parts as one name that any file system takes: letters, digits, dot, dash, underscore."""
    cleaned = (_UNSAFE.sub("_", part).strip("._-") for part in parts)
    return "-".join(part for part in cleaned if part) or "unnamed"
