"""Searches what was written (a store, a run, an export) for what its sources say about patients."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from maesil.ct.readers.modality import MODALITIES
from maesil.datasets.dicom_files import looks_like_dicom
from maesil.datasets.harmless import harmless
from maesil.datasets.identity import IDS, orders_of_date
from maesil.datasets.names import ending_of, stem_of
from maesil.datasets.public_words import WORDS
from maesil.errors import ConfigError
from maesil.files import AnyPath
from maesil.progress import Progress
from maesil.walk import walk

_TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "AE")
"""Kinds of DICOM elements with free text; those with defined terms, such as the modality, tell nobody."""
_SHORTEST = 3
_SHORTEST_NUMBER = 5
_SHORTEST_IN_BINARY = 8
"""Fewest characters of what is searched for: as letters, as digits, and in files that are not text."""
_LONGEST_GRAM = 6
_STANDARD_UIDS = "1.2.840.10008."
_OWN_WORDS = frozenset((
    "min", "max",
    "attributes", "array", "bytes", "chunk", "codecs", "configuration", "data", "dimension", "dimensions", "end",
    "format", "grid", "group", "index", "key", "level", "little", "location", "metadata", "name", "names", "node",
    "path", "regular", "scale", "shape", "store", "type", "value", "version",
))  # fmt: skip
"""Words of settings and of Zarr's own metadata: they are searched for only together with other words."""
_PUBLIC_ID = re.compile(r"LIDC-IDRI-\d{4}")

_DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?(?![\w.])")
_TOKEN = re.compile(r"[^\W_]+")
_TEXT_RUN = re.compile(rb"[\x20-\x7e]{6,}")
_ENCODED = re.compile(r"[A-Za-z0-9+/=]{200,}")  # images in a page, as base64


@dataclass(frozen=True)
class Repeated:
    """Something of a source that an output repeats.

    Attributes:
        place: Path of the file, relative to the output.
        what: Keyword of the DICOM element, or "name of a file or folder"; its value is not told again.
    """

    place: str
    what: str


@dataclass(frozen=True)
class PrivacyCheck:
    """What was compared, and what was found.

    Attributes:
        repeated: Everything that an output repeats.
        files: Number of files that were searched.
        values: Number of values that were searched for.
    """

    repeated: tuple[Repeated, ...]
    files: int
    values: int


def check_privacy(written: AnyPath, source: AnyPath, *, progress: Progress | None = None) -> PrivacyCheck:
    """Searches everything in `written` for what the DICOM headers and the names of files and folders in `source` say.

    Letters and digits are compared, in any case and with any marks between them; names of people in any order of their
    words, dates in any order of day, month and year, UIDs by their longer parts, too. Not searched for are defined
    terms, numbers of fewer than 5 digits, and words of public case names.

    Args:
        written: What `maesil` wrote: a store, a run, an export or a file.
        source: Scans that it was made from.
        progress: Called after every file that is searched.

    Raises:
        ConfigError: One of the two does not exist.
    """
    written, source = Path(written), Path(source)
    for path in (written, source):
        if not path.exists():
            raise ConfigError("no such file or folder", where=path, fix="check the path")
    secrets = _secrets_of(source)
    found, files = set[Repeated](), sorted(files_of_output(written))
    for done, path in enumerate(files, start=1):
        place = path.relative_to(written).as_posix()
        grams = {*grams_of(place), *_grams_of_file(path)}
        found |= {Repeated(place, secrets[gram]) for gram in grams & secrets.keys()}
        if progress is not None:
            progress(done, len(files), place)
    return PrivacyCheck(tuple(sorted(found, key=lambda one: (one.place, one.what))), len(files), len(secrets))


def files_of_output(written: Path) -> Iterator[Path]:
    """The files of an output, except voxels of a store."""
    every = [written] if written.is_file() else (path for path in written.rglob("*") if path.is_file())
    return (path for path in every if not ("c" in path.parts and path.name.isdigit()))


def _grams_of_file(path: Path) -> set[str]:
    content = path.read_bytes()
    try:
        return grams_of(content.decode("utf-8"))
    except UnicodeDecodeError:
        runs = "\n\n".join(run.decode("ascii") for run in _TEXT_RUN.findall(content))
        return {gram for gram in grams_of(runs) if len(gram) >= _SHORTEST_IN_BINARY}


def grams_of(text: str) -> set[str]:
    """All runs of up to 6 neighbouring words of a text, each without marks, in lower case; decimals are left out."""
    grams, run, end = set[str](), list[str](), -2
    for word in _TOKEN.finditer(_DECIMAL.sub("  ", _ENCODED.sub("  ", text.lower()))):
        run = [*run[1 - _LONGEST_GRAM :], word.group()] if word.start() - end <= 1 else [word.group()]
        end = word.end()
        grams |= {"".join(run[first:]) for first in range(len(run))}
    return grams


def _secrets_of(source: Path) -> dict[str, str]:
    """Map from what must not be repeated, without marks and in lower case, to what it is."""
    secrets: dict[str, str] = {}
    files = walk(source).files
    for path in files:
        if ending_of(path.name) is None and looks_like_dicom(path):
            for element in _elements(path):
                secrets |= dict.fromkeys(_forms_of(element), element.keyword or str(element.tag))
    home = source if source.is_dir() else source.parent
    for part in {part for path in files for part in (*path.relative_to(home).parts, home.name)}:
        for form in _name_forms(stem_of(part), proper=True):
            secrets.setdefault(form, "name of a file or folder")
    return secrets


def _elements(path: Path) -> list[Any]:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(pydicom.dcmread(path, stop_before_pixels=True).iterall())
    except Exception:  # pydicom may raise anything for damaged files
        return []


def _forms_of(element: Any) -> set[str]:
    values = element.value if isinstance(element.value, (list, tuple)) or element.VM > 1 else [element.value]
    texts = [text for value in values if value is not None and (text := str(value).strip())]
    return {form for text in texts for form in _forms(element.VR, element.keyword, text)}


def _forms(kind: str, keyword: str, text: str) -> Iterable[str]:
    if kind == "PN":
        return _name_forms(text)
    if kind in ("DA", "DT"):
        return {form for form in orders_of_date(text) if len(form) == 8}
    if kind == "UI":
        arcs = [] if text.startswith(_STANDARD_UIDS) else text.split(".")
        return {arc for arc in arcs if len(arc) >= _SHORTEST_NUMBER}
    if keyword in IDS or (keyword == "Modality" and text not in MODALITIES):
        return set() if _PUBLIC_ID.fullmatch(text) else _searchable([_plain(text)])
    if kind in _TEXTS and not harmless(text) and (len(_TOKEN.findall(text)) > 1 or re.search(r"\d", text)):
        return _searchable([_plain(" ".join(_TOKEN.findall(text)[:_LONGEST_GRAM]))])
    return set()


def _name_forms(text: str, *, proper: bool = False) -> set[str]:
    """The words of a name, and all of them in any order; `proper`: only words with capitals count alone."""
    words = _TOKEN.findall(text.lower())
    if harmless(text) or not words:
        return set()
    alone = (word for word in _TOKEN.findall(text) if not (proper and word.isascii() and word == word.lower()))
    single = [word.lower() for word in alone if word.lower() not in WORDS | _OWN_WORDS]
    orders = permutations(words) if len(words) <= 4 else [tuple(words[:_LONGEST_GRAM])]
    return _searchable({*single, *map("".join, orders)} - _OWN_WORDS)


def _searchable(forms: Iterable[str]) -> set[str]:
    return {form for form in forms if len(form) >= (_SHORTEST_NUMBER if form.isdigit() else _SHORTEST)}


def _plain(text: str) -> str:
    return "".join(_TOKEN.findall(text.lower()))
