"""LIDC-IDRI: 1,018 thoracic CT of 1,010 patients, nodules outlined by up to four radiologists.

Get it: The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2015.LO9QL9SX; CC BY 3.0 (Armato et al. 2011). NBIA's
downloader writes the tree; the readers' XML comes with the images, or separately as a zip (LIDC-XML-only), whose folder
tcia-lidc-xml goes next to the patients; each XML names its series, wherever it lies.

Tree, with the old names of study and series (UIDs) or the newer ones (date and description)::

    LIDC-IDRI-0314/1.3.6.1.4.1.../1.3.6.1.4.1.../1-001.dcm ... 157.xml
    LIDC-IDRI-0314/01-01-2000-NA-NA-12345/3000566.000000-NA-03192/1-001.dcm ... 069.xml
    tcia-lidc-xml/157/158.xml

Known faults: eight patients have two scans, which share a split. 290 studies also hold chest radiographs (CR, DX) with
an XML of another format: both are skipped. Some scans lack slices: `prepare` refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

from maesil.counts import count_of
from maesil.datasets.dicom_files import dicom_scans
from maesil.datasets.layout import Layout
from maesil.datasets.lidc_readings import with_readings
from maesil.datasets.names import safe_name
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans, Problem, Scan
from maesil.walk import folders_in, walk

_PATIENT = re.compile(r"^LIDC-IDRI-\d{4}$")
_RADIOGRAPH = re.compile(r"modality (CR|DX)")
_UIDS = "1.3.6.1.4.1.14519.5.2.1.6279.6001"
SECOND_SERIES = frozenset(
    f"{_UIDS}.{number}"
    for number in (
        "254176853278710432756285662989",  # LIDC-IDRI-0132
        "768856069922657732839929586657",  # LIDC-IDRI-0151
        "406508755509460310384282367044",  # LIDC-IDRI-0315
        "316900421002460665752357657094",  # LIDC-IDRI-0332
        "170344311940983984999167745197",  # LIDC-IDRI-0355
        "802846969823720586279982179144",  # LIDC-IDRI-0365
        "335799017122466251265955525941",  # LIDC-IDRI-0442
        "145600217263993824806929968211",  # LIDC-IDRI-0484
    )
)
"""UIDs of the second series of the eight patients who have two. They are listed so that a name does not depend on what
else is on the disk. The collection is closed: any further series of a patient is not part of it."""


@final
class LIDC(Layout):
    """TCIA's tree of DICOM series, with the readers' XML next to them."""

    name = "lidc"
    dataset = "LIDC-IDRI"
    region = "thorax"

    def match(self, root: Path) -> str | None:
        """Matches patient folders LIDC-IDRI-0000, here or one folder below."""
        patients = _patients(root)
        return f"{count_of(len(patients), 'folder')} named LIDC-IDRI-0000" if patients else None

    def owns(self, root: Path, path: Path) -> bool:
        """True for anything in a patient's folder."""
        return _patient_of(root, path) is not None

    def find(self, root: Path, naming: Naming) -> FoundScans:
        """The CT series of every patient, with the XML that names it."""
        scans, problems, radiographs = list[Scan](), list[Problem](), 0
        files = walk(root).files
        xmls = [path for path in files if path.suffix.lower() == ".xml"]
        for patient, images in _by_patient(root, files).items():
            series, refused, _ = dicom_scans(images, root, naming)
            radiographs += sum(bool(_RADIOGRAPH.search(problem.reason)) for problem in refused)
            problems += [problem for problem in refused if not _RADIOGRAPH.search(problem.reason)]
            scans += [_named(scan, patient.name, naming) for scan in series]
            if not series:
                problems.append(Problem(patient.name, "it holds no CT series", "download it again", patient))
        scans, notices = with_readings(scans, xmls, root)
        if radiographs:
            verb = "was" if radiographs == 1 else "were"
            notices.append(Problem(".", f"{radiographs} series of chest radiographs {verb} skipped", "", root))
        return FoundScans(tuple(scans), tuple(problems), sum(bool(scan.labels) for scan in scans), tuple(notices))


def _patients(root: Path) -> list[Path]:
    if _PATIENT.match(root.name):
        return [root]
    homes = (root, root / "LIDC-IDRI")
    return sorted(path for home in homes for path in folders_in(home) if _PATIENT.match(path.name))


def _patient_of(root: Path, path: Path) -> Path | None:
    """The patient's folder that contains a file."""
    if _PATIENT.match(root.name):
        return root
    parts = path.relative_to(root).parts[:-1]
    depth = 2 if parts[:1] == ("LIDC-IDRI",) else 1
    return root.joinpath(*parts[:depth]) if len(parts) >= depth and _PATIENT.match(parts[depth - 1]) else None


def _by_patient(root: Path, files: Sequence[Path]) -> dict[Path, list[Path]]:
    """Every patient's folder with its files except XML; folders without files are included."""
    images: dict[Path, list[Path]] = {folder: [] for folder in _patients(root)}
    for path in files:
        patient = _patient_of(root, path)
        if patient is not None and path.suffix.lower() != ".xml":
            images[patient].append(path)
    return images


def _named(scan: Scan, patient: str, naming: Naming) -> Scan:
    """The scan with public names instead of hashes: the patient's name, with -2 for a second scan."""
    if naming.hash_names:
        return scan
    case = f"{patient}-2" if scan.series in SECOND_SERIES else patient
    dataset = naming.dataset or "LIDC-IDRI"
    scan_id = safe_name(case) if dataset == "LIDC-IDRI" else safe_name(dataset, case)
    return replace(scan, scan_id=scan_id, dataset=dataset, patient=patient, shown=case)
