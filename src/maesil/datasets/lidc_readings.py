"""Assigns the readers' XML to the series of LIDC-IDRI, wherever the files lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maesil.counts import count_of
from maesil.datasets.lidc_series import XML_FIX, absent_marks
from maesil.datasets.lidc_xml import Reading, read_xml, series_of
from maesil.datasets.scan import Problem, Scan
from maesil.errors import ScanError


def with_readings(scans: Sequence[Scan], xmls: Iterable[Path], root: Path) -> tuple[list[Scan], list[Problem]]:
    """Adds to each series the readings that name it.

    Copies of a reading count once: TCIA provides them with the images and as a separate download.

    Args:
        scans: Series of DICOM files.
        xmls: All XML files below the source.
        root: Source that holds them.

    Returns:
        The scans with their labels; what to report: damaged XML, XML of other series, series without XML, marks on
        missing slices.
    """
    named, reported = _by_series(xmls, root)
    reported += _strangers(named, {scan.series for scan in scans}, root)
    read = list[Scan]()
    for scan in scans:
        readings, problems = _readings(named.get(scan.series or "", ()), root)
        reported += problems
        reported += [problem for path, one in readings.items() for problem in _absent(one, path, scan, root)]
        if not readings:
            reported.append(Problem(scan.shown, "no readers' XML names this series", XML_FIX, scan.path))
        if len(readings) > 1:
            reason = f"{len(readings)} XML files mark this series in different ways"
            reported.append(Problem(scan.shown, reason, "all of their marks are used", scan.path))
        read.append(replace(scan, labels=tuple(readings)))
    return read, reported


def _by_series(xmls: Iterable[Path], root: Path) -> tuple[dict[str, list[Path]], list[Problem]]:
    named: dict[str, list[Path]] = defaultdict(list)
    reported = list[Problem]()
    for path in xmls:
        try:
            series = series_of(path)
        except ScanError as error:
            reported.append(_problem_of(path, root, error.what, error.fix or ""))
            continue
        if series is not None:
            named[series].append(path)
    return named, reported


def _strangers(named: Mapping[str, Sequence[Path]], known: set[str | None], root: Path) -> list[Problem]:
    """XML of missing series; many in one folder, such as a full download with few scans, are reported as one."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for series, paths in named.items():
        if series not in known:
            for path in paths:
                folders[root / path.relative_to(root).parts[0]].append(path)
    fix = "its marks are not used"
    return [
        _problem_of(paths[0], root, "this XML belongs to a missing series", fix)
        if len(paths) == 1
        else _problem_of(folder, root, f"{len(paths)} XML files belong to missing series", "their marks are not used")
        for folder, paths in folders.items()
    ]


def _readings(paths: Sequence[Path], root: Path) -> tuple[dict[Path, Reading], list[Problem]]:
    """The distinct readings in files that name one series; damaged files are reported and not used."""
    readings: dict[Path, Reading] = {}
    reported = list[Problem]()
    for path in paths:
        try:
            reading = read_xml(path)
        except ScanError as error:
            reported.append(_problem_of(path, root, error.what, error.fix or ""))
            continue
        if reading not in readings.values():
            readings[path] = reading
    return readings, reported


def _absent(reading: Reading, path: Path, scan: Scan, root: Path) -> list[Problem]:
    marks, slices = absent_marks(reading, scan.files)
    reason = f"{count_of(marks, 'mark')} on {count_of(slices, 'slice that is', 'slices that are')} missing"
    return [_problem_of(path, root, reason, "these marks are left out")] if marks else []


def _problem_of(path: Path, root: Path, reason: str, fix: str) -> Problem:
    return Problem(path.relative_to(root).as_posix(), reason, fix, path)
