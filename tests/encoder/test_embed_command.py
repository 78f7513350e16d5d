"""The command `embed`, where there is no store."""

from __future__ import annotations

from pathlib import Path

import pytest

from maesil import pipeline
from maesil.errors import NoStoreError


def test_embed__of_scans_names_the_voxels_to_prepare(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"no store")
    with pytest.raises(NoStoreError) as raised:
        pipeline.embed("demo-2mm", tmp_path, tmp_path / "table.csv")
    assert str(raised.value.fix).endswith("`maesil prepare SCANS --out STORE --spacing-mm 2`")
