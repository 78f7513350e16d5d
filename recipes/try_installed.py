"""Checks an installed maesil outside of its checkout: its version, its files, and what published weights give.

    python try_installed.py FILES.txt SCANS

FILES.txt lists the files of the package in the checkout, one `src/maesil/...` per line; SCANS is a folder for three
small synthetic scans.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

import maesil
from maesil.ct.phantom import phantom
from maesil.ct.write import write_nifti
from maesil.runs.published import published_names

package = Path(maesil.__file__).parent
assert version("maesil") == maesil.__version__, (version("maesil"), maesil.__version__)
listed = [Path(line).relative_to("src/maesil") for line in Path(sys.argv[1]).read_text().splitlines()]
assert listed, "no files are listed"
assert (missing := [str(path) for path in listed if not (package / path).is_file()]) == [], missing

folder = Path(sys.argv[2])
folder.mkdir(exist_ok=True)
scans = [folder / f"phantom-{seed}.nii.gz" for seed in range(3)]
for seed, scan in enumerate(scans):
    write_nifti(scan, phantom(seed, shape=(64, 72, 72), spacing_mm=(4.0, 4.0, 4.0)).volume)
for name in published_names():
    vector = maesil.load(name).embed(scans[0]).vector
    assert vector.ndim == 1, vector.shape
    assert np.isfinite(vector).all(), name
    print(f"maesil {maesil.__version__}: a vector of {len(vector)} numbers by {name}")
