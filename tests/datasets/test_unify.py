"""Several collections as one dataset: Table I, splits, the list, and the store made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from layout_trees import btcv, lidc, nifti, totalsegmentator
from maesil import pipeline
from maesil.cli import main
from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti
from maesil.datasets import SplitConfig
from maesil.datasets.manifest import read_manifest
from maesil.datasets.overview import HEADER, rows_of
from maesil.errors import ConfigError
from maesil.sampling.config import DataConfig, HoldoutConfig
from maesil.sampling.holdout import scan_splits
from maesil.sampling.plan import RandomPlan
from maesil.sampling.regions import regions_of
from maesil.store.prepare import PrepareConfig
from maesil.store.scanstore import ScanStore


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    made = []
    for name, make in (("BTCV", btcv), ("LIDC-IDRI", lidc), ("Total", totalsegmentator)):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
        made.append(tmp_path / name)
    return made


def test_unify__makes_table_1_from_the_files(roots: list[Path]) -> None:
    unified = pipeline.datasets(roots)
    rows = {row.dataset: row for row in unified.collections}
    assert [(row.scans, row.patients) for row in rows.values()] == [(3, 3), (3, 2), (2, 2)]
    assert rows["BTCV"].slices == (4.0, 4.0, 4.0)
    assert rows["LIDC-IDRI"].in_plane_mm == (0.5, 0.5, 0.5)
    assert [row.labelled for row in rows.values()] == [3, 0, 2]
    assert rows_of(unified.collections, unified.patients)[-1][:5] == ("all", "", "", "8", "7")
    assert [row.classes for row in rows.values()] == [13, 0, 1]
    assert all(len(cells) == len(HEADER) for cells in rows_of(unified.collections, unified.patients))


def test_command__its_next_step_names_labels_where_there_are_some(
    roots: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "list.json"
    main(["datasets", *map(str, roots), "--out", str(out)])
    told = f"next: maesil prepare {out} --out STORE; with --labels, it stores the labels of 5 scans, too\n"
    assert told in capsys.readouterr().err
    main(["datasets", str(roots[1]), "--out", str(out)])
    assert f"next: maesil prepare {out} --out STORE\n" in capsys.readouterr().err


def test_unify__numbers_without_a_name_are_not_counted_as_a_class(tmp_path: Path) -> None:
    for name in ("a", "a_labels", "b", "b_mask", "b_tumour"):
        nifti(tmp_path / "set" / f"{name}.nii.gz")
    named, unnamed = (pipeline.datasets([tmp_path / "set" / f"{name}.nii.gz"]) for name in ("b", "a"))
    assert [row.classes for row in (*named.collections, *unnamed.collections)] == [2, None]
    both = pipeline.datasets([tmp_path / "set"])
    assert both.collections[0].classes is None
    assert rows_of(both.collections, both.patients)[0][HEADER.index("classes")] == "not read"


def test_unify__says_how_often_training_draws_from_each(roots: list[Path]) -> None:
    splits = SplitConfig(fractions=(1.0, 0.0, 0.0))
    for weighting, shares in (("by-scan", [3 / 7, 3 / 7, 1 / 7]), ("by-dataset", [1 / 3] * 3)):
        unified = pipeline.datasets(roots, splits=splits, weighting=weighting)  # type: ignore[arg-type]
        assert [row.drawn for row in unified.collections] == pytest.approx(shares)
        assert rows_of(unified.collections, unified.patients)[0][-1].endswith(f"% {weighting}")
    unified = pipeline.datasets(roots, splits=splits, weighting="temperature", temperature=0.5)
    assert rows_of(unified.collections, unified.patients)[2][-1] == "22.4% temperature 0.5"


def test_unify__splits_by_patient_and_keeps_what_was_given(roots: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "scans.json"
    first = pipeline.datasets(roots, out=out, splits=SplitConfig(overrides={"s0001": "val"}))
    split = {scan.scan_id: scan.split for scan in first.scans}
    assert split["LIDC-IDRI-0132"] == split["LIDC-IDRI-0132-2"]
    assert (split["TotalSegmentator-s0000"], split["TotalSegmentator-s0001"]) == ("train", "val")
    assert None not in split.values()
    assert read_manifest(out) == first.scans

    for number in range(3, 9):
        nifti(roots[0] / f"RawData/Training/img/img{number:04d}.nii.gz")
    second = pipeline.datasets(roots, out=out, splits=SplitConfig(seed=5, overrides={"s0001": "val"}))
    assert {scan.scan_id: scan.split for scan in second.scans}.items() >= split.items()


def test_unify__overrides_that_name_nobody_are_told(roots: list[Path]) -> None:
    unified = pipeline.datasets(roots, splits=SplitConfig(overrides={"s00001": "test"}))
    (problem,) = (problem for problem in unified.problems if "no patient" in problem.reason)
    assert "'s00001'" in problem.reason
    assert problem.fix == "did you mean 's0001'?"


@pytest.mark.parametrize("count", [2, 3, 5, 24])
def test_unify__splits_as_training_does(tmp_path: Path, count: int) -> None:
    for number in range(count):
        path = tmp_path / "set" / f"case_{number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        voxels = np.full((4, 4, 4), number, np.int16)
        voxels[0] = -1000
        write_nifti(path, Volume(voxels, Geometry.from_parts((4, 4, 4), (20.0, 20.0, 20.0))))
    listed = {scan.patient: scan.split for scan in pipeline.datasets([tmp_path / "set"]).scans}
    pipeline.prepare([tmp_path / "set"], tmp_path / "store", PrepareConfig(spacing_mm=20.0), workers=0)
    store = ScanStore(tmp_path / "store")
    splits = scan_splits(store, HoldoutConfig())
    assert {entry.patient: splits[entry.scan_id] for entry in store.entries} == listed
    assert set(listed.values()) == set(("train", "test", "val")[:count])


def test_unify__a_truncated_scan_is_told_and_the_rest_goes_on(roots: list[Path]) -> None:
    whole = roots[2] / "s0000" / "ct.nii.gz"
    voxels = np.random.default_rng(0).integers(-1000, 1000, (24, 24, 24)).astype(np.int16)
    write_nifti(whole, Volume(voxels, Geometry.from_parts((24, 24, 24), (1.0, 1.0, 1.0))))
    whole.write_bytes(whole.read_bytes()[:-2000])
    unified = pipeline.datasets(roots)
    assert [(problem.source, problem.reason) for problem in unified.problems] == [
        ("s0000/ct.nii.gz", "the file is cut short")
    ]
    assert len(unified.scans) == 7


def test_unify__an_empty_split_is_told(tmp_path: Path) -> None:
    nifti(tmp_path / "one" / "a.nii.gz")
    unified = pipeline.datasets([tmp_path / "one"], splits=SplitConfig(fractions=(1.0, 0.0, 0.0)))
    assert [notice.reason for notice in unified.notices] == ["the split 'val' is empty", "the split 'test' is empty"]


def test_prepare__takes_the_list_and_keeps_splits_but_no_path(scans: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "scans.json", tmp_path / "store"
    splits = SplitConfig(overrides={"a": "train", "b": "train", "c": "val", "d": "test"})
    pipeline.datasets([scans], out=out, splits=splits)
    config = PrepareConfig(spacing_mm=2.0)
    assert len(pipeline.prepare([out], store, config, workers=0).prepared) == 4
    assert {entry.patient: entry.split for entry in ScanStore(store).entries} == splits.overrides
    assert str(scans) not in (store / "manifest.json").read_text()
    data = DataConfig(store=store)
    for split, patients in (("train", {"a", "b"}), ("val", {"c"}), ("test", {"d"})):
        found = regions_of(ScanStore(store), data, (32, 32, 32), split)
        assert {region.entry.patient for region in found} == patients

    again = pipeline.prepare([out], store, config, workers=0)
    assert (again.prepared, len(again.skipped)) == ((), 4)
    pipeline.datasets([scans], out=out, splits=SplitConfig(overrides={**splits.overrides, "b": "test"}))
    assert pipeline.prepare([out], store, config, workers=0).changed == (f"{scans.name}-b",)


def test_prepare__a_damaged_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scans.json"
    path.write_text(json.dumps({"kind": "maesil datasets", "format": 9, "scans": []}))
    with pytest.raises(ConfigError, match="format 9"):
        pipeline.prepare([path], tmp_path / "store")
    path.write_text('{"kind": "maesil datasets", "format": 1, "scans": [{}]}')
    with pytest.raises(ConfigError, match="cannot be read"):
        pipeline.prepare([path], tmp_path / "store")


def test_random_plan__datasets_are_drawn_by_a_power_of_their_size(tiny_store: Path) -> None:
    """One scan of a small dataset, three of a large one."""
    from dataclasses import replace

    data = DataConfig(store=tiny_store)
    everything = replace(data, holdout=replace(data.holdout, patients=SplitConfig(fractions=(1.0, 0.0, 0.0))))
    regions = [
        replace(region, entry=replace(region.entry, dataset="small" if number == 0 else "large"))
        for number, region in enumerate(regions_of(ScanStore(tiny_store), everything, (32, 32, 32), "train"))
    ]
    tiles = [len(region.tiles) for region in regions]
    large = sum(tiles[1:])
    for power in (1.0, 0.5, 0.0):
        plan = RandomPlan(regions, 0, 0.05, None, dataset_power=power)
        drawn = np.mean([plan.place(number).scan_id == regions[0].entry.scan_id for number in range(2000)])
        expected = tiles[0] ** power / (tiles[0] ** power + large**power)
        assert drawn == pytest.approx(expected, abs=0.035)


def test_data_config__a_grid_cannot_weigh() -> None:
    with pytest.raises(ConfigError, match="grid sampling takes every superpatch once"):
        DataConfig(sampling="grid", weighting="by-dataset")
    assert DataConfig(weighting="temperature", temperature=0.3).dataset_power == 0.3


def test_unify__replaces_no_file_that_is_no_list(roots: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "patients.json"
    out.write_text('{"scans": [], "format": 1}')
    with pytest.raises(ConfigError, match="there already, and `maesil datasets --out` did not write it"):
        pipeline.datasets(roots, out=out)
    assert out.read_text() == '{"scans": [], "format": 1}'


def test_write_table1__in_every_form(roots: list[Path], tmp_path: Path) -> None:
    unified = pipeline.datasets(roots)
    for ending, sign in ((".md", "| BTCV |"), (".tex", r"\toprule"), (".csv", "BTCV,btcv,abdomen,3")):
        path = tmp_path / f"table1{ending}"
        for _ in range(2):  # an earlier Table I is replaced
            pipeline.write_table1(unified, path)
            assert sign in path.read_text()
        path.write_text("dataset of a thesis")
        with pytest.raises(ConfigError, match="there already, and `maesil datasets --table` did not write it"):
            pipeline.write_table1(unified, path)
        assert path.read_text() == "dataset of a thesis"
    with pytest.raises(ConfigError, match=r"\.md, \.tex or \.csv|no '\.doc' file"):
        pipeline.write_table1(unified, tmp_path / "table1.doc")
