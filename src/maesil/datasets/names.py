"""What a file's path says about it: whether it holds labels, the public name of its case, the patient's name."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePath

from maesil.ct.readers import volume_endings
from maesil.errors import ConfigError

GENERIC_STEMS = frozenset({"ct", "image", "img", "volume", "scan", "imaging", "data"})
"""Generic file names: the case is then named after the folder (s0001/ct.nii.gz)."""

NAMED = 5
"""Most files of a kind that a message names; more are counted."""

LONGEST_NAME = 120
"""Most characters of a name; file systems allow 255, and drafts and viewers add to it."""

_LABEL_STEM = re.compile(
    r"^(mask|masks|label|labels|seg|segmentation)$|^label\d+$|[._-](labels?|tumou?r|mask|seg|segmentation|gt)$",
    re.IGNORECASE,
)
_LABEL_FOLDER = re.compile(r"^(labels?|labels?[-_]?(tr|ts|va|val|train|test)|masks?|segmentations?)$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def ending_of(name: str) -> str | None:
    """The ending of a volume file's name, or None for any other file."""
    return next((ending for ending in volume_endings() if name.lower().endswith(ending)), None)


def stem_of(name: str) -> str:
    """The file's name without the extension of its format."""
    return name[: len(name) - len(ending_of(name) or "")]


def holds_labels(relative: PurePath) -> bool:
    """Whether a path below a source holds labels, judging by the name of the file or of a folder."""
    in_folder = any(_LABEL_FOLDER.match(part) for part in relative.parts[:-1])
    return in_folder or bool(_LABEL_STEM.search(stem_of(relative.name)))


def case_parts(relative: PurePath) -> tuple[str, ...]:
    """The parts of a path that name a case, without generic names: (s0001,) for s0001/ct.nii.gz, () for ct.nii.gz."""
    stem = stem_of(relative.name)
    return relative.parts[:-1] if stem.lower() in GENERIC_STEMS else (*relative.parts[:-1], stem)


def safe_name(*parts: str) -> str:
    """The parts as one name that any file system accepts: ASCII letters, digits, dot, dash, underscore; not too long.

    A part with other letters ends with a short hash of itself, because its ASCII letters alone may be those of another
    name, or none: "Ärzte" becomes "Arzte-" and 8 digits, a name in Hangul becomes the 8 digits.
    """
    name = "-".join(part for part in map(_ascii_part, parts) if part) or "unnamed"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{_short_hash(name)}"


def _ascii_part(part: str) -> str:
    # Accents and other marks go, not the letters that carry them.
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", part) if not unicodedata.combining(letter))
    cleaned = _UNSAFE.sub("_", letters).strip("._-")
    if part.isascii():
        return cleaned
    # Some systems store a letter and its accent apart: the hash is that of the composed form.
    composed = _short_hash(unicodedata.normalize("NFC", part))
    return f"{cleaned}-{composed}" if cleaned else composed


def _short_hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def patient_name(relative: PurePath, pattern: str | None = None) -> str | None:
    """The patient that a path below a source names; None if only the source itself has a name.

    Without a pattern, a case is a patient, named by the file, or by its folder if the file name is generic. If patients
    have several files, only a pattern keeps those in one split.

    Args:
        relative: Path below the source.
        pattern: Regular expression, searched for in the path; its first group, or all of it, names the patient.

    Raises:
        ConfigError: The pattern is not a regular expression, or is not found in the path.
    """
    if pattern is not None:
        return _matched(pattern, relative)
    stem = stem_of(relative.name)
    return stem if stem.lower() not in GENERIC_STEMS else relative.parent.name or None


def _matched(pattern: str, relative: PurePath) -> str:
    try:
        match = re.search(pattern, relative.as_posix())
    except re.error as error:
        raise ConfigError(f"the patient pattern is not a regular expression: {error}", where=pattern) from error
    if match is None:
        fix = "give a pattern that matches every path below the source, such as '^([^/]+)/' for the first folder"
        raise ConfigError("the patient pattern does not match", where=relative, fix=fix)
    return match.group(1) if match.re.groups else match.group(0)
