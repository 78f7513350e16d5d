"""From the three collections' trees, with real scans in them, to Tables I to III: the public commands alone."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from maesil.cli import main
from maesil.store.scanstore import ScanStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SMALL = (
    "--model.superpatch", "32", "32", "32", "--model.encoder-width", "24", "--model.encoder-depth", "1",
    "--model.encoder-heads", "2", "--model.decoder-width", "12", "--model.decoder-depth", "1",
    "--model.decoder-heads", "2", "--efficiency.threads", "1",
)  # fmt: skip


@pytest.fixture
def trees(tmp_path: Path) -> list[Path]:
    """BTCV from two abdomens, one without its label; LIDC-IDRI-0314 as DICOM with XML; a case of TotalSegmentator."""
    real = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct"
    if not real.is_dir():
        pytest.skip(f"no test data at {real}: set MAESIL_TEST_DATA")
    btcv, lidc, total = (tmp_path / name for name in ("BTCV", "LIDC-IDRI", "Totalsegmentator_dataset"))
    images, labels = (btcv / "RawData" / "Training" / kind for kind in ("img", "label"))
    images.mkdir(parents=True)
    labels.mkdir()
    shutil.copy(real / "corpus2mm" / "totalseg_example.nii.gz", images / "img0001.nii.gz")
    shutil.copy(real / "corpus2mm" / "totalseg_example_labels.nii.gz", labels / "label0001.nii.gz")
    shutil.copy(real / "native" / "crlm_1006.nii.gz", images / "img0002.nii.gz")
    shutil.copytree(real / "lidc", lidc)
    shutil.copytree(real / "totalsegmentator", total)
    return [btcv, lidc, total]


@pytest.mark.slow
def test_compare__from_the_three_collections_trees(
    trees: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(tree) for tree in trees]
    manifest, table, store, out = (tmp_path / name for name in ("scans.json", "table1.md", "store", "out"))
    splits = ("--splits.overrides", "LIDC-IDRI-0314", "train", "img0001", "train", "img0002", "test", "s0001", "test")
    assert main(["datasets", *names, "--out", str(manifest), "--table", str(table), *splits]) in (0, 1)
    said = capsys.readouterr()
    for layout, dataset in (("btcv", "BTCV"), ("lidc", "LIDC-IDRI"), ("totalsegmentator", "TotalSegmentator")):
        assert layout in said.out + said.err
        assert f"| {dataset} " in table.read_text()
    assert "img0002" in said.out + said.err, "its label is missing, and that is told"

    assert main(["prepare", str(manifest), "--out", str(store), "--spacing-mm", "4", "--workers", "0"]) == 0
    assert {scan.dataset for scan in ScanStore(store).entries} == {"BTCV", "LIDC-IDRI", "TotalSegmentator"}

    models = ("maesil", "slice_mae", "interpolation", "mean")
    words = ["compare", str(store), "--beside", "demo", "--budget", "steps=2", "--out", str(out)]
    assert main([*words, "--models", *models, "--protocol.lpips", "None", "--protocol.mask-draws", "2", *SMALL]) == 0
    with (out / "table3.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["group"] for row in rows} >= {"BTCV", "TotalSegmentator"}
    assert {row["model"] for row in rows} >= {"maesil", "slice_mae", "interpolation", "mean"}
    assert np.isfinite([float(row["mean"]) for row in rows if row["metric"] in ("psnr", "ssim")]).all()
    assert (out / "index.html").stat().st_size > 100_000
