"""The command `embed`, where there is no store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import blob
from maesil import pipeline
from maesil.cli import main
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.encoder.start import flags_of
from maesil.errors import NoStoreError
from maesil.store.prepare import PrepareConfig, prepare


def test_embed__names_the_scans_that_are_nearly_all_air(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = blob(0, (40, 40, 40))
    (tmp_path / "scans").mkdir()
    write_nifti(tmp_path / "scans" / "body.nii.gz", body)
    air = np.full(body.shape, -1000, np.int16)
    air[0, 0, 0] = 40
    write_nifti(tmp_path / "scans" / "s1.nii.gz", Volume(air, body.geometry))
    prepare([tmp_path / "scans"], tmp_path / "store", PrepareConfig(spacing_mm=2.0), workers=0)
    table = tmp_path / "table.csv"
    assert main(["embed", "demo-2mm", str(tmp_path / "store"), "--out", str(table)]) == 0
    said = capsys.readouterr().err
    assert "warning: scans-s1: not in the table, as it is nearly all air" in said
    assert "The embedded patient was not seen in pre-training" in said
    assert {line.split(",")[1] for line in table.read_text().splitlines()[1:]} == {"scans-body"}


def test_embed__of_scans_names_the_voxels_to_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"no store")
    with pytest.raises(NoStoreError) as raised:
        pipeline.embed("demo-2mm", tmp_path, tmp_path / "table.csv")
    assert str(raised.value.fix).endswith("`maesil prepare SCANS --out STORE --spacing-mm 2`")
    assert main(["embed", "demo-2mm", str(tmp_path), "--out", str(tmp_path / "table.csv")]) == 2
    assert "maesil prepare SCANS --out STORE --spacing-mm 2`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spacing_mm", "told"), [(2.0, "2"), (0.9765625, "0.9765625"), (0.1, "0.1"), (1 / 3, str(1 / 3))]
)
def test_flags_of__gives_the_very_spacing(spacing_mm: float, told: str) -> None:
    """A store of a rounded one would be refused as the first was."""
    assert flags_of({"policy": "spacing", "spacing_mm": spacing_mm}) == f"--spacing-mm {told}"
