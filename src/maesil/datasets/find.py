"""Finds scans in sources of any layout: reports what each source is, and lists each scan once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TypeVar

from maesil.counts import count_of, some_of
from maesil.ct.readers import readable
from maesil.datasets.collection_labels import with_collection_labels
from maesil.datasets.dicom_files import dicom_scans, looks_like_dicom
from maesil.datasets.labels import LabelsBeside, labels_beside
from maesil.datasets.layout import Layout
from maesil.datasets.layouts import LAYOUTS, matching_layout
from maesil.datasets.leftovers import left_over
from maesil.datasets.manifest import is_manifest, read_manifest
from maesil.datasets.names import NAMED, ending_of, holds_labels
from maesil.datasets.names_beside import BESIDE
from maesil.datasets.naming import Known, Naming, unknown
from maesil.datasets.own_files import is_output, outputs_text, without_outputs
from maesil.datasets.scan import FoundScans, Match, Problem, Scan
from maesil.datasets.tree import EMPTY, Tree, with_labels_beside
from maesil.errors import ConfigError
from maesil.files import quoted

AnyPurePath = TypeVar("AnyPurePath", bound=PurePath)


def find_scans(
    sources: Sequence[Path],
    dataset: str | None = None,
    salt: str | Callable[[], str] = "",
    *,
    hash_names: bool = False,
    keep_names: bool = False,
    known: Known = unknown,
    patient_pattern: str | None = None,
    layout: str | None = None,
) -> FoundScans:
    """Finds every scan in files and folders.

    Each source gets the first layout that its files match, or that of a plain tree; `matched` says which, and why.
    Files that may be scans but are not part of that layout are not read; they are reported as one problem.
    Volume files are named by dataset and case if these names are recognisably harmless (see
    `maesil.datasets.harmless`), and by salted hashes if not; DICOM series and their patients always by hashes, except
    in public collections. A scan's name depends only on its own place in its source, not on what else is found. Label
    files are counted and skipped; hidden files and prepared stores are ignored. Files of a folder that maesil itself
    wrote, such as reconstructions, are left out, and listed as `outputs`. Of several volume files, those that would
    count as labels or outputs in their folder do so, too; the only file of a call is read as a scan.

    Args:
        sources: Volume files, DICOM folders, trees of these, or lists written by `maesil datasets`.
        dataset: Name of the collection; None: its own, or the source folder's, unless that may be a patient's.
        salt: Secret that the hashes are made with; a function is called only if a hash is made.
        hash_names: Whether to hash the names of all volume files.
        keep_names: Whether to keep the names of all volume files and folders.
        known: Function from a scan's name to its dataset in the store or list that is continued, or to None: scans keep
            the names that they have there.
        patient_pattern: Regular expression that finds the patient in a volume file's path below its source.
        layout: Name in `LAYOUTS`, if the layout of the sources is known.

    Raises:
        ConfigError: A source does not exist, none has a scan, the layout or the pattern does not match, or names are
            both to be hashed and to be kept.
    """
    naming = Naming(dataset, salt, hash_names, keep_names, patient_pattern, known)
    existing = _existing(sources)
    slices = dict.fromkeys(source for source in existing if source.is_file() and _is_slice(source))
    volumes = {source for source in existing if source.is_file() and ending_of(source.name)}
    given_labels = _labels_among(volumes)
    given_names = _names_among(existing)
    apart = {*slices, *given_labels, *given_names}
    beside = labels_beside()
    found = [
        _find_in(source, naming, layout, beside, is_chosen=volumes == {source})
        for source in existing
        if source not in apart
    ]
    found += [_find_among(files, naming) for files in _by_folder(slices)]
    found.append(_without_scan(given_labels, found))
    outputs = {path for one in found for path in one.outputs}
    scans, twice = _distinct(scan for one in found for scan in one.scans)
    problems = (*(problem for one in found for problem in one.problems), *twice)
    if not scans and all(problem.reason == EMPTY for problem in problems):
        raise _nothing(sources, found)
    return FoundScans(
        scans,
        problems,
        labels=sum(one.labels for one in found) - _counted_again(found),
        notices=tuple(dict.fromkeys(notice for one in found for notice in one.notices)),
        matched=tuple(match for one in found for match in one.matched),
        taken_for_labels=tuple(path for one in found for path in one.taken_for_labels),
        outputs=tuple(sorted(outputs)),
        given_labels=tuple(path for path in given_labels if path not in outputs),
        given_names=given_names,
    )


def _labels_among(volumes: Collection[AnyPurePath]) -> tuple[AnyPurePath, ...]:
    """The label files among several files that are given, as `*.nii.gz` gives them: those that their folder has.

    The only file of a call is read whatever its name: so a CT whose name says labels can be given.
    """
    if len(volumes) < 2:
        return ()
    folders: dict[str, list[PurePath]] = {}  # by drive: files on two drives of Windows have none in common
    for path in volumes:
        folders.setdefault(path.drive, []).append(path.parent)
    above = {drive: os.path.commonpath(on_it) for drive, on_it in folders.items()}
    return tuple(sorted(path for path in volumes if holds_labels(path.relative_to(above[path.drive]))))


def _names_among(sources: Sequence[Path]) -> tuple[Path, ...]:
    """The files with names of labels that are given beside other sources, as `archive/*` gives them."""
    names = {source for source in sources if source.name == BESIDE and source.is_file()}
    folders = {source.parent for source in sources if source not in names}
    return tuple(sorted(path for path in names if path.parent in folders))


def _without_scan(labels: Iterable[Path], found: Sequence[FoundScans]) -> FoundScans:
    """The given label files that belong to no scan, except those that were counted with a folder."""
    known = {path for one in found for path in (*one.taken_for_labels, *one.outputs)}
    known |= {label for one in found for scan in one.scans for label in scan.labels}
    lone = [path for path in labels if path not in known]
    outputs = tuple(filter(is_output, lone))
    unclaimed = tuple(path for path in lone if path not in outputs)
    return FoundScans((), (), len(unclaimed), taken_for_labels=unclaimed, outputs=outputs)


def _counted_again(found: Sequence[FoundScans]) -> int:
    """How often a scan's label files were counted for another source, too, as of a file and its folder."""
    used = [{label for scan in one.scans for label in scan.labels} for one in found]
    return sum(map(len, used)) - len(set[Path]().union(*used))


def _nothing(sources: Sequence[Path], found: Sequence[FoundScans]) -> ConfigError:
    where = ", ".join(map(str, sources))
    if outputs := [path for one in found for path in one.outputs]:
        return ConfigError("no scan was found", where=where, fix=outputs_text(outputs))
    taken_for_labels = [path for one in found for path in one.taken_for_labels]
    if not taken_for_labels:
        return ConfigError("no scan was found", where=where, fix=f"readable: {readable()}")
    holds = "it holds" if len(taken_for_labels) == 1 else "they hold"
    return ConfigError(
        f"no scan was found, only {count_of(len(taken_for_labels), 'file')} whose name or folder says that {holds} "
        f"labels: {some_of([path.name for path in taken_for_labels], NAMED)}",
        where=where,
        fix=f"if it is a CT, rename it, or give it as the only file of a call: {quoted(taken_for_labels[0])}",
    )


def _find_in(source: Path, naming: Naming, layout: str | None, beside: LabelsBeside, *, is_chosen: bool) -> FoundScans:
    """The scans of a source that is no slice; a file that the user has chosen alone is read whoever wrote it."""
    if is_manifest(source):
        scans = read_manifest(source)
        match = Match(source, "manifest", f"a list of {count_of(len(scans), 'scan')} written by `maesil datasets`")
        return FoundScans(scans, (), sum(len(scan.labels) for scan in scans), matched=(match,))
    kind, because = _layout_of(source, layout)
    found = kind.find(source, naming)
    if isinstance(kind, Tree):
        found = with_labels_beside(found, beside) if source.is_file() else found
        found, from_tree = with_collection_labels(found, LAYOUTS.values())
        because += from_tree
    found = without_outputs(found, given=source if is_chosen else None)
    problems, outputs = left_over(source, kind, found, naming)
    match = Match(source, kind.name, because)
    return replace(found, problems=(*found.problems, *problems), outputs=(*found.outputs, *outputs), matched=(match,))


def _is_slice(source: Path) -> bool:
    """Whether a file that is given as a source may be one of several files of a scan."""
    return not is_manifest(source) and ending_of(source.name) is None and looks_like_dicom(source)


def _by_folder(files: Iterable[Path]) -> list[list[Path]]:
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    return list(folders.values())


def _find_among(files: Sequence[Path], naming: Naming) -> FoundScans:
    """The series that DICOM files make which were given one by one: these files alone, not their neighbours."""
    folder = files[0].parent
    scans, problems, derived = dicom_scans(sorted(set(files)), folder, naming)
    source = files[0] if len(files) == 1 else folder
    match = Match(source, "folder", "one file" if len(files) == 1 else f"{len(files)} files of this folder")
    return FoundScans(tuple(scans), tuple(problems), derived, matched=(match,))


def _layout_of(source: Path, layout: str | None) -> tuple[Layout, str]:
    if layout is None:
        return matching_layout(source)
    kind = LAYOUTS[layout]
    because = kind.match(source)
    if because is None:
        fix = "omit --layout to see which layout is recognised; docs/datasets.md has the trees"
        raise ConfigError(f"this tree does not match the layout '{layout}'", where=source, fix=fix)
    return kind, because


def _existing(sources: Sequence[Path]) -> list[Path]:
    """The sources as absolute paths, each once."""
    if not sources:
        raise ConfigError("no source was given", fix="name files or folders with scans")
    for source in sources:
        _require_existing(source)
    # Not resolve(): the name of a link is the chosen name. But "." and ".." are not names.
    return list(dict.fromkeys(Path(os.path.normpath(source.absolute())) for source in sources))


def _require_existing(source: Path) -> None:
    """Refuses a source that is neither a file nor a folder; whether it can be read is found out later."""
    fix = "give existing files or folders"
    try:
        kind = source.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError("this source does not exist", where=source, fix=fix) from error
    except OSError as error:
        what = f"this source cannot be reached: {error.strerror or type(error).__name__}"
        raise ConfigError(what, where=source, fix="check the permissions of the folders above it") from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ConfigError("this source is neither a file nor a folder", where=source, fix=fix)


def _distinct(scans: Iterable[Scan]) -> tuple[tuple[Scan, ...], list[Problem]]:
    """One scan per name, even on file systems that ignore case; a source given twice is not a problem.

    Of copies of a series, the one with the most files is kept.
    """
    first: dict[str, Scan] = {}
    twice: list[Problem] = []
    for scan in sorted(scans, key=lambda scan: (scan.scan_id, -len(scan.files), scan.files)):
        known = first.setdefault(scan.scan_id.lower(), scan)
        if known.files != scan.files:
            reason = f"another scan of this call already has the name {known.scan_id}"
            fix = "rename the file, or give it another --dataset"
            if scan.series is not None:
                fix = "leave one of the copies out: that with the most files is taken, even if it is refused later"
            may_be_scan = scan.series is None
            twice.append(Problem(scan.shown, reason, fix, scan.path, may_be_scan=may_be_scan, other=known.place))
    return tuple(sorted(first.values(), key=lambda scan: scan.scan_id)), twice
