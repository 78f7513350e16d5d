"""NIfTI, NRRD and MetaImage files as scans, named by their public case names unless these are to be hashed."""

from __future__ import annotations

import re
from pathlib import Path

from maesil.datasets.names import case_parts, patient_name, safe_name
from maesil.datasets.naming import UNNAMED, Naming
from maesil.datasets.scan import HASHED, Scan

_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE)
HEADER_BYTES = 65536
"""Number of bytes that the header of a MetaImage or NRRD file fits into."""


def volume_scan(path: Path, root: Path, naming: Naming) -> Scan:
    """The scan of a volume file below `root`; its name includes the file's folders, so that names are unique.

    Raises:
        ConfigError: The patient pattern does not match the path.
    """
    relative = path.relative_to(root)
    patient = patient_name(relative, naming.patient_pattern) or root.name
    parts = case_parts(relative)
    home = root
    if not parts:  # the source is the folder of one case
        parts, home = (root.name,), root.parent
    if naming.hash_names:
        scan_id = naming.hashed("scan", "/".join((home.name, *parts)))
        dataset = naming.dataset or UNNAMED
        return Scan(
            scan_id, dataset, naming.hashed("patient", patient), path, None, files_of(path), f"{HASHED}{scan_id}"
        )
    dataset = naming.dataset or safe_name(home.name)
    scan_id = safe_name(dataset, *parts)
    return Scan(scan_id, dataset, safe_name(patient), path, None, files_of(path), relative.as_posix())


def files_of(path: Path) -> tuple[Path, ...]:
    """The file, and the data file that a detached header (.mhd, .nhdr) names."""
    data = data_file(path)
    return (path, data) if data is not None and data != path and data.is_file() else (path,)


def data_file(path: Path) -> Path | None:
    """The file with the voxels: the one that a detached header names, whether it exists or not, or the file itself.

    None if the header cannot be read, or names several files.
    """
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return path
    try:
        with path.open("rb") as file:
            match = _DATA_FILE.search(file.read(HEADER_BYTES))
    except OSError:
        return None  # reading the scan will say what is wrong
    named = match.group(1).decode(errors="replace") if match else "LOCAL"
    if named.startswith("LIST") or "%" in named:
        return None
    return path if named == "LOCAL" else path.parent / named
