"""Real CT, DICOM and NIfTI, through the whole of `prepare`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maesil.ct.readers import read
from maesil.ct.volume import AIR_HU
from maesil.store.conform import conform
from maesil.store.prepare import PrepareConfig, PrepareReport, prepare
from maesil.store.scanstore import ScanStore

NAMES = ("corpus2mm/crlm_1006.nii.gz", "dicom", "lidc", "totalsegmentator/s0001", "sts/sts_001.nii.gz")


@pytest.fixture(scope="module")
def prepared(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PrepareReport, ScanStore]:
    out = tmp_path_factory.mktemp("real") / "store"
    config = PrepareConfig(spacing_mm=3.0, salt="test")
    report = prepare([data_dir / name for name in NAMES], out, config, workers=0)
    return report, ScanStore(out)


def test_prepare__real_scans_of_every_kind(prepared: tuple[PrepareReport, ScanStore]) -> None:
    report, store = prepared
    assert {"corpus2mm-crlm_1006", "totalsegmentator-s0001", "sts-sts_001"} < set(report.prepared)
    assert len(report.prepared) == 5
    for entry in store.entries:
        assert entry.spacing_mm == pytest.approx((3.0, 3.0, 3.0), rel=1e-4)
        assert entry.geometry.orientation == "SPL"
        assert 0.1 < entry.tissue_share < 1.0
        assert min(entry.shape) > 10


def test_prepare__a_tilted_series_is_quarantined_beside_sound_ones(
    prepared: tuple[PrepareReport, ScanStore],
) -> None:
    (row,) = prepared[0].quarantined
    assert row.path is not None
    assert row.path.endswith("ge_head_uneven")
    assert "tilt" in row.reason
    assert row.fix


def test_prepare__voxels_are_those_of_the_file(data_dir: Path, prepared: tuple[PrepareReport, ScanStore]) -> None:
    store = prepared[1]
    expected = conform(read(data_dir / "dicom" / "crlm_1004"), store.manifest["settings"])
    (entry,) = (entry for entry in store.entries if entry.source_geometry.shape == (41, 512, 512))
    np.testing.assert_array_equal(store.volume(entry.scan_id).array, expected.array)


def test_prepare__lungs_are_air_and_the_body_is_not(prepared: tuple[PrepareReport, ScanStore]) -> None:
    store = prepared[1]
    (thorax,) = (entry for entry in store.entries if entry.dataset == "LIDC-IDRI")
    middle = tuple(size // 2 for size in thorax.shape)
    volume = store.volume(thorax.scan_id).array
    lungs = ((volume > -950) & (volume < -700)).mean()
    assert lungs > 0.05
    heart = volume[middle[0], middle[1] - 3 : middle[1] + 3, middle[2] - 3 : middle[2] + 3]
    assert heart.mean() > -200
    assert volume.min() >= AIR_HU


def test_prepare__the_tissue_map_finds_the_tissue(prepared: tuple[PrepareReport, ScanStore]) -> None:
    store = prepared[1]
    for entry in store.entries:
        voxels = float(store.occupancy(entry.scan_id).sum()) / 255 * 16**3
        assert voxels == pytest.approx(entry.tissue_share * np.prod(entry.shape), rel=0.02)
