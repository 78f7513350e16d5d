"""Terminal output of work on many scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from maesil.counts import count_of, some_of
from maesil.datasets.labels import given_labels_text, merged_text, unclaimed_text
from maesil.datasets.names import NAMED
from maesil.datasets.names_beside import names_beside_text
from maesil.datasets.own_files import outputs_text
from maesil.datasets.scan import matches_text
from maesil.progress import scan_bar
from maesil.store.label_classes import LabelClass
from maesil.store.prepare import PrepareReport

__all__ = ["prepare_text", "scan_bar"]

LISTED = 10
"""Number of label numbers without a name that are listed; more are counted."""

WHOLE = "--json lists all"
"""Where a list of classes that is cut is whole."""


def prepare_text(report: PrepareReport, out: Path, *, chose_missing: bool = False) -> str:
    """Summarises a `prepare` in a few lines, with every source that was left out and the reason.

    Args:
        report: Outcome of the call.
        out: The store.
        chose_missing: Whether the user chose what a class without a voxel means; if not, the other meaning is told.
    """
    lines = matches_text(report.matched)
    counted = f"{count_of(len(report.prepared), 'scan')} prepared, {len(report.skipped)} already there"
    at = f", {report.voxels}" if report.voxels else ""
    lines += [f"{counted}{at}: {out}", *_changes_text(report)]
    if report.hidden:
        lines.append(_hidden_text(report))
    if report.given_labels:
        lines.append(given_labels_text(report.given_labels))
    if report.labels:
        lines.append(_skipped_labels_text(report))
    if report.labelled is not None:
        lines += [*_classes_text(report), *_missing_text(report, hint=not chose_missing)]
    if report.merged_names:
        lines.append(merged_text(report.merged_names))
    if report.named_by:
        lines.append(names_beside_text(report.named_by))
    if report.taken_for_labels:
        lines.append(unclaimed_text(report.taken_for_labels))
    if report.outputs:
        lines.append(outputs_text(report.outputs))
    lines += [f"note: {text}" for text in report.notices]
    lines += _warnings_text(report)
    if report.quarantined:
        lines.append(f"{len(report.quarantined)} left out (also in {out / 'quarantine.jsonl'}):")
    lines += [
        f"  {row.path or row.source}: {row.told}" + (f" ({row.fix})" if row.fix else "") for row in report.quarantined
    ]
    return "\n".join(lines)


def _changes_text(report: PrepareReport) -> list[str]:
    """What happened to scans that the store had."""
    told = partial(_told, report.places)
    kept = "refused with these settings; its files have not changed, so the store keeps it as it was"
    removed = "removed from the store, as the files of this name are refused now"
    return [
        *(f"{told(name)} was damaged in the store, and is written again: {fault}" for name, fault in report.repaired),
        *(f"warning: {told(name)}: replaced, as this store had it from other files" for name in report.replaced),
        *(f"warning: {told(name)}: {removed}" for name in report.removed),
        *(f"warning: {told(name)}: {kept}" for name in report.kept),
    ]


def _warnings_text(report: PrepareReport) -> list[str]:
    """What was assumed about scans, which are copies, and which patients have one name."""
    told = partial(_told, report.places)
    fix = "remove the copies (maesil store remove; where training draws the splits, their patients are in one)"
    lines = [
        *(f"warning: {told(name)}: {text}" for name, text in report.warnings),
        *(
            f"warning: {len(names)} scans have the same bytes: {', '.join(map(told, names))}; {fix}"
            for names in report.copies
        ),
    ]
    if report.namesakes:
        named = some_of([_namesake_text(name, scans, told) for name, scans in report.namesakes], NAMED)
        lines.append(
            f"warning: patients of the same name in several datasets count as one: {named}; if they are "
            "different people, rename their files, or find their names with --patient-pattern"
        )
    return lines


def _told(places: Mapping[str, str], name: str) -> str:
    """A scan's name, and its file if that is known: a name may be a hash."""
    return f"{name} ({places[name]})" if name in places else name


def _namesake_text(patient: str, scans: Mapping[str, str], told: Callable[[str], str]) -> str:
    return f"{patient} ({'; '.join(f'{dataset}: {told(scan)}' for dataset, scan in scans.items())})"


def _skipped_labels_text(report: PrepareReport) -> str:
    """How many label files were not used, why, and that this takes no labels out of the store."""
    skipped = f"{count_of(report.labels, 'label file')} skipped"
    if report.labelled is not None:
        return skipped
    kept = f"; the store keeps the labels of {count_of(report.labels_kept, 'scan')}" if report.labels_kept else ""
    return f"{skipped}, as --labels was not given{kept}"


def _classes_text(report: PrepareReport) -> list[str]:
    """How many scans have labels, the classes, those that no scan has, and how to name the numbers without a name."""
    found = [_class_text(one) for one in report.classes if one.scans]
    there = len(report.prepared) + len(report.skipped)
    scans = count_of(there, "scan")
    if not report.labelled:
        why = (
            "the label files found are of no scan, or hold no voxels"
            if report.labels
            else "no label file was found; that of NAME.nii.gz is NAME_labels.nii.gz (or _seg, _mask, _tumour) "
            "beside it"
        )
        return [f"labels of 0 of {scans}: {why}"] if there else []
    has = f"labels of {report.labelled} of {scans}: {count_of(len(found), 'class', 'classes')}"
    lines = [f"{has}: {some_of(found, whole=WHOLE)}" if found else has]
    if empty := [one.name for one in report.classes if not one.scans]:
        lines.append(f"{count_of(len(empty), 'class is', 'classes are')} in no scan: {some_of(empty, whole=WHOLE)}")
    if unnamed := [str(one.number) for one in report.classes if not one.is_named]:
        have = count_of(len(unnamed), "label number has", "label numbers have")
        lines.append(
            f"{have} no name: {some_of(unnamed, LISTED, WHOLE)}; to name them, write names such as "
            f'{{"{unnamed[0]}": "liver"}} into label_names.json beside the label files, or into the file of '
            "--label-names, if you give one; then run this again"
        )
    return lines


def _missing_text(report: PrepareReport, *, hint: bool) -> list[str]:
    """Which classes lack a voxel in some scans with labels, in how many, and what that means for training."""
    found = [one for one in report.classes if one.scans]
    background = [f"{one.name} ({count_of(one.background, 'scan')})" for one in found if one.background]
    unmarked = [f"{one.name} ({count_of(one.unmarked, 'scan')})" for one in found if one.unmarked]
    them = "it" if len(background) == 1 else "them"
    advice = f"; if nobody marked {them} there, run this again with --missing-labels unmarked" if hint else ""
    lines = []
    if background:
        listed = some_of(background, whole=WHOLE)
        text = f"no voxel in some of these scans: {listed}: background there, for training and scores"
        lines.append(text + advice)
    if unmarked:
        listed = some_of(unmarked, whole=WHOLE)
        lines.append(f"not marked in some of these scans: {listed}: neither taught nor scored there")
    return lines


def _class_text(one: LabelClass) -> str:
    number = "of several numbers" if one.number is None else f"= {one.number}"
    return f"{one.name} {number} ({count_of(one.scans, 'scan')})"


def _hidden_text(report: PrepareReport) -> str:
    """How many names are hashed, where they are listed, and how to keep them."""
    names = "name is a hash" if report.hidden == 1 else "names are hashes"
    listed = f"{report.names} lists the originals; keep it as private as the scans"
    where = listed if report.names else "no list of the originals could be written beside the store"
    return (
        f"{report.hidden} {names}, as names of files and folders, and DICOM headers, may tell who the patient is; "
        f"{where}; --keep-names keeps the names of files and folders"
    )
