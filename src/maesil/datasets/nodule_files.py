"""Writes the nodules of LIDC-IDRI as label files and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import mean

import numpy as np
from jaxtyping import Bool

from maesil.counts import count_of
from maesil.ct.geometry import Geometry
from maesil.ct.readers import read
from maesil.ct.volume import Volume
from maesil.ct.write import LABELS_MARK, is_marked, write_nifti
from maesil.datasets.find import find_scans
from maesil.datasets.lidc_series import nodules_of_scan
from maesil.datasets.nodules import CONSENSUS, Nodule, volume_mm3
from maesil.datasets.salt import kept_salt
from maesil.datasets.scan import Problem, Scan
from maesil.errors import ConfigError, ScanError
from maesil.files import AnyPath, as_paths, make_folder, write_text
from maesil.progress import Progress

TABLE = "nodules.csv"
NEW_FOLDER = "give a new folder: --out DIR"


@dataclass(frozen=True)
class NoduleRow:
    """One outlined nodule of a scan.

    Attributes:
        scan_id: Name of the scan, the same as from `prepare`.
        patient: Name of the patient.
        number: Value of its voxels in the scan's label file, from 1.
        readers: Number of radiologists who outlined it, of four.
        volume_mm3: Volume of the voxels that enough of them include.
        malignancy: Mean of their ratings, 1 (highly unlikely) to 5 (highly suspicious); None if nobody rated it.
    """

    scan_id: str
    patient: str
    number: int
    readers: int
    volume_mm3: float
    malignancy: float | None


@dataclass(frozen=True)
class WrittenNodules:
    """The result of `write_nodules`.

    Attributes:
        rows: Nodules of all scans.
        files: Map from scan to its label file.
        table: The CSV file.
        problems: Scans without readings, and readings that do not fit.
    """

    rows: tuple[NoduleRow, ...]
    files: dict[str, Path]
    table: Path
    problems: tuple[Problem, ...]


def write_nodules(
    roots: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    agreement: float = CONSENSUS,
    salt: str | None = None,
    progress: Progress | None = None,
) -> WrittenNodules:
    """Writes a label file per scan, in which nodule k has the value k, and one table of all nodules.

    A voxel belongs to a nodule if at least the share `agreement` of its readers include it.

    Args:
        roots: Folders of LIDC-IDRI, with the readers' XML.
        out: Folder for SCAN.nii.gz, on the scan's own voxels, and nodules.csv; created if missing.
        agreement: Share of a nodule's readers, above 0 and at most 1.
        salt: Salt of the hashed names, as in `prepare`; None: the user's own.
        progress: Function called after every scan.

    Raises:
        ConfigError: The share is out of range, there is no scan of LIDC-IDRI, `out` is not a folder, or it has files of
            these names that an earlier call did not write or somebody corrected since; nothing is written then.
    """
    roots, out = as_paths(roots), Path(out)
    if not 0 < agreement <= 1:
        raise ConfigError(f"the agreement is {agreement:g}", fix="give a share above 0 and at most 1")
    found = find_scans(roots, salt=kept_salt if salt is None else salt, layout="lidc")
    _settle(make_folder(out), found.scans)
    problems = list(found.problems)
    rows: list[NoduleRow] = []
    files: dict[str, Path] = {}
    for number, scan in enumerate(found.scans, start=1):
        try:
            nodules = nodules_of_scan(scan)
            volume = read(scan.path, series=scan.series, files=scan.files)
        except ScanError as error:
            problems.append(Problem(scan.shown, error.what, error.fix or "", scan.path))
        else:
            masks = [nodule.consensus(agreement) for nodule in nodules]
            files[scan.scan_id] = _write_labels(masks, volume.geometry, _label_file(out, scan))
            rows += _rows(scan, nodules, masks, volume.geometry.spacing_mm)
        if progress is not None:
            progress(number, len(found.scans), scan.scan_id)
    table = write_text(out / TABLE, _csv(rows))
    return WrittenNodules(tuple(rows), files, table, tuple(problems))


def _settle(out: Path, scans: Sequence[Scan]) -> None:
    """Refuses a folder with files of the same names that no earlier call wrote, or that somebody corrected since.

    The table tells whose folder it is, and the digest in a label file whether its voxels are still those that were
    written. The table is begun before the first label file, so that a killed call can be repeated.
    """
    table, begun = out / TABLE, _csv([])
    there = [path for scan in scans if (path := _label_file(out, scan)).exists()]
    if table.is_file() and table.read_bytes().startswith(begun.encode()):
        _refuse_corrected(there)
        return
    theirs = [path for path in (table, *there) if path.exists()]
    if theirs:
        what = "this file is there already, and `maesil nodules` did not write it"
        raise ConfigError(what, where=theirs[0], fix=NEW_FOLDER)
    write_text(table, begun)


def _refuse_corrected(labels: Sequence[Path]) -> None:
    """Refuses label files that somebody may have corrected; those of earlier versions have no digest that tells."""
    corrected = [path for path in labels if not is_marked(path, LABELS_MARK)]
    if corrected:
        others = count_of(len(corrected) - 1, "further one")
        which = f"this label file and {others} are" if corrected[1:] else "this label file is"
        what = f"nothing says that {which} still as `maesil nodules` wrote it: corrections would be lost"
        raise ConfigError(what, where=corrected[0], fix=f"{NEW_FOLDER}; or remove it, and it is written again")


def _label_file(out: Path, scan: Scan) -> Path:
    return out / f"{scan.scan_id}.nii.gz"


def _write_labels(masks: Sequence[Bool[np.ndarray, "d h w"]], geometry: Geometry, path: Path) -> Path:
    """Gives nodule k the value k; where two overlap, the one that more readers outlined is kept."""
    labels = np.zeros(geometry.shape, dtype=np.uint8 if len(masks) < 256 else np.int16)
    for number, mask in reversed(list(enumerate(masks, start=1))):
        labels[mask] = number
    write_nifti(path, Volume(labels, geometry), made_by="nodules", mark=LABELS_MARK)
    return path


def _rows(
    scan: Scan,
    nodules: Sequence[Nodule],
    masks: Sequence[Bool[np.ndarray, "d h w"]],
    spacing_mm: tuple[float, float, float],
) -> list[NoduleRow]:
    rows = []
    for number, (nodule, mask) in enumerate(zip(nodules, masks, strict=True), start=1):
        rated = [mark.ratings["malignancy"] for mark in nodule.marks if "malignancy" in mark.ratings]
        volume = round(volume_mm3(mask, spacing_mm), 1)
        malignancy = round(mean(rated), 2) if rated else None
        rows.append(NoduleRow(scan.scan_id, scan.patient, number, nodule.readers, volume, malignancy))
    return rows


def _csv(rows: Sequence[NoduleRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(NoduleRow)])
    writer.writerows(["" if value is None else value for value in astuple(row)] for row in rows)
    return text.getvalue()
