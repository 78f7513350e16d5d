"""LIDC-IDRI: 1,018 thoracic CT of 1,010 patients, nodules outlined by up to four radiologists.

Get it: The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2015.LO9QL9SX; CC BY 3.0 (Armato et al. 2011). NBIA's
downloader writes the tree; the readers' XML comes with the images, or apart as a zip (LIDC-XML-only) whose folder
tcia-lidc-xml is put beside the patients; each XML names its series.

Tree, with the old names of study and series (UIDs) or the newer ones (date and description)::

    LIDC-IDRI-0314/1.3.6.1.4.1.../1.3.6.1.4.1.../1-001.dcm ... 157.xml
    LIDC-IDRI-0314/01-01-2000-NA-NA-12345/3000566.000000-NA-03192/1-001.dcm ... 069.xml

Known faults: eight patients have two scans: a patient's scans share a split; the second, by series, is
LIDC-IDRI-0000-2, so both should be there when a store is begun. 290 studies also hold chest radiographs
(CR, DX) with an XML of another kind: both are skipped. Some scans lack slices: `prepare` refuses them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

from maesil.datasets.dicom_files import dicom_scans
from maesil.datasets.layout import Layout
from maesil.datasets.lidc_series import XML_FIX, absent_marks
from maesil.datasets.lidc_xml import read_xml, series_of
from maesil.datasets.names import safe_name
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.errors import ScanError

_PATIENT = re.compile(r"^LIDC-IDRI-\d{4}$")
_RADIOGRAPH = re.compile(r"modality (CR|DX)")


@final
class LIDC(Layout):
    """TCIA's tree of DICOM series, the readers' XML beside them."""

    name = "lidc"
    dataset = "LIDC-IDRI"
    region = "thorax"

    def match(self, root: Path) -> str | None:
        """Patient folders LIDC-IDRI-0000, here or one folder below."""
        patients = _patients(root)
        return f"{len(patients)} folders named LIDC-IDRI-0000" if patients else None

    def find(self, root: Path, naming: Naming) -> FoundScans:
        """The CT series of every patient, with the XML that names it."""
        scans, problems, notices = list[Scan](), list[Problem](), list[Problem]()
        radiographs = 0
        apart = _readings_apart(root)
        for folder in _patients(root):
            files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
            series, refused, _ = dicom_scans([path for path in files if path.suffix != ".xml"], root, naming)
            radiographs += sum(bool(_RADIOGRAPH.search(problem.reason)) for problem in refused)
            problems += [problem for problem in refused if not _RADIOGRAPH.search(problem.reason)]
            xmls = [path for path in files if path.suffix == ".xml"]
            xmls += [path for scan in series for path in apart.get(scan.series or "", [])]
            own, told = _with_readings(series, _distinct(xmls), root)
            scans += _named(own, folder.name, naming)
            notices += told
            if not series:
                problems.append(Problem(folder.name, "it holds no CT series", "download it again", folder))
        if radiographs:
            notices.append(Problem(".", f"{radiographs} series of chest radiographs skipped", "", root))
        return FoundScans(tuple(scans), tuple(problems), sum(bool(scan.labels) for scan in scans), tuple(notices))

    def passes_over(self, path: Path) -> bool:
        """A patient's radiographs, counted where they are skipped."""
        return path.suffix == ".dcm" and any(_PATIENT.match(part) for part in path.parts)


def _patients(root: Path) -> list[Path]:
    if _PATIENT.match(root.name):
        return [root]
    homes = (root, root / "LIDC-IDRI")
    return sorted(
        path
        for home in homes
        if home.is_dir()
        for path in home.iterdir()
        if _PATIENT.match(path.name) and path.is_dir()
    )


def _readings_apart(root: Path) -> dict[str, list[Path]]:
    """Series to the XML that names it, of those that lie in no patient's folder."""
    apart: dict[str, list[Path]] = {}
    outside = (p for p in root.rglob("*.xml") if not any(_PATIENT.match(part) for part in p.parts))
    for path in sorted(outside):
        named = series_of(path)
        if named is not None:
            apart.setdefault(named, []).append(path)
    return apart


def _distinct(xmls: Sequence[Path]) -> list[Path]:
    """One of every reading: the same XML may come with the images and apart."""
    return list({hashlib.sha256(path.read_bytes()).digest(): path for path in reversed(xmls)}.values())[::-1]


def _with_readings(series: list[Scan], xmls: list[Path], root: Path) -> tuple[list[Scan], list[Problem]]:
    """Each series with the readings that name it; XML of other series, and series without any, are told."""
    readings = {path: named for path in xmls if (named := series_of(path)) is not None}
    known = {scan.series for scan in series}
    told = [
        Problem(
            path.relative_to(root).as_posix(),
            "this XML is of a series that is not here",
            "its marks are not used",
            path,
        )
        for path, named in readings.items()
        if named not in known
    ]
    own = []
    for scan in series:
        labels = tuple(path for path, named in readings.items() if named == scan.series)
        own.append(replace(scan, labels=labels))
        told += [problem for path in labels if (problem := _reading_problem(path, scan, root)) is not None]
        if not labels:
            told.append(Problem(scan.shown, "no readers' XML names this series", XML_FIX, scan.path))
    return own, told


def _reading_problem(path: Path, scan: Scan, root: Path) -> Problem | None:
    """What is wrong with a reading: it is damaged, or marks slices that are not here."""
    shown = path.relative_to(root).as_posix()
    try:
        marks, slices = absent_marks(read_xml(path), scan.files)
    except ScanError as error:
        return Problem(shown, error.what, error.fix or "", path)
    if not marks:
        return None
    return Problem(shown, f"{marks} marks on {slices} slices that are not here", "these marks are left out", path)


def _named(series: list[Scan], patient: str, naming: Naming) -> list[Scan]:
    """Public names in place of hashes: the patient's, numbered by series where there are several."""
    if naming.hash_names:
        return series
    named = []
    for number, scan in enumerate(sorted(series, key=lambda scan: scan.series or ""), start=1):
        case = patient if number == 1 else f"{patient}-{number}"
        dataset = naming.dataset or "LIDC-IDRI"
        scan_id = safe_name(case) if dataset == "LIDC-IDRI" else safe_name(dataset, case)
        named.append(replace(scan, scan_id=scan_id, dataset=dataset, patient=patient, shown=case))
    return named
