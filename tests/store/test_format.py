from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import zarr

from maesil.ct.geometry import Geometry
from maesil.store.format import LEVELS, level_shape, multiscales
from maesil.store.prepare import PrepareConfig, prepare


def ngff_position(attributes: dict[str, object], level: int, index: tuple[int, int, int]) -> np.ndarray:
    """Where a viewer puts a voxel's centre: scale, then translation, in the order of the axes."""
    transforms = attributes["multiscales"][0]["datasets"][level]["coordinateTransformations"]  # type: ignore[index]
    assert [one["type"] for one in transforms] == ["scale", "translation"]
    return np.asarray(transforms[0]["scale"]) * index + transforms[1]["translation"]


def test_multiscales__voxels_are_where_the_geometry_has_them() -> None:
    geometry = Geometry.from_parts((20, 30, 40), (2.5, 0.8, 0.7), (11.0, -7.0, 100.0))
    attributes = multiscales("scan", geometry)
    left, posterior, superior = geometry.index_to_mm(np.array([[3.0, 4.0, 5.0]]))[0]
    np.testing.assert_allclose(ngff_position(attributes, 0, (3, 4, 5)), (superior, posterior, left))


@pytest.mark.parametrize("level", range(1, LEVELS))
def test_multiscales__a_coarse_voxel_lies_amid_its_fine_ones(level: int) -> None:
    geometry = Geometry.from_parts((20, 30, 40), (2.5, 0.8, 0.7), (11.0, -7.0, 100.0))
    attributes = multiscales("scan", geometry)
    factor = 2**level
    fine = [ngff_position(attributes, 0, (i, i, i)) for i in range(2 * factor, 3 * factor)]
    np.testing.assert_allclose(ngff_position(attributes, level, (2, 2, 2)), np.mean(fine, axis=0))


def test_multiscales__is_what_ome_ngff_05_asks_for() -> None:
    attributes = multiscales("scan", Geometry.from_parts((20, 30, 40), (2.5, 0.8, 0.7)))
    assert attributes["version"] == "0.5"
    (image,) = attributes["multiscales"]
    assert image["name"] == "scan"
    directions = ("inferior-to-superior", "anterior-to-posterior", "right-to-left")
    assert image["axes"] == [
        {"name": name, "type": "space", "unit": "millimeter", "orientation": {"type": "anatomical", "value": direction}}
        for name, direction in zip("zyx", directions, strict=True)
    ]
    assert [one["path"] for one in image["datasets"]] == ["0", "1", "2"]
    json.dumps(attributes)


def test_level_shape__rounds_up() -> None:
    assert [level_shape((5, 8, 1), level) for level in range(3)] == [(5, 8, 1), (3, 4, 1), (2, 2, 1)]


def test_store__is_a_zarr_hierarchy_that_other_tools_walk(sources: Path, tmp_path: Path) -> None:
    prepare([sources], tmp_path / "store", PrepareConfig(spacing_mm=3.0, chunk=16, shard=32, salt="s"), workers=0)
    root = zarr.open_group(tmp_path / "store", mode="r", zarr_format=3)
    assert sorted(root["scans"].group_keys()) == ["set-a", "set-b", "set-c"]
    scan = root["scans/set-a"]
    for level, dataset in enumerate(scan.attrs["ome"]["multiscales"][0]["datasets"]):
        assert scan[dataset["path"]].shape == level_shape(scan["0"].shape, level)
    assert scan.attrs["maesil"]["geometry"]["shape"] == list(scan["0"].shape)


def test_store__array_order_is_simpleitks_of_an_lps_image(sources: Path, tmp_path: Path) -> None:
    prepare([sources], tmp_path / "store", PrepareConfig(policy="native", salt="s"), workers=0)
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(sources / "a.nii.gz")), "LPS")
    stored = zarr.open_array(tmp_path / "store" / "scans" / "set-a" / "0", mode="r")[:]
    np.testing.assert_array_equal(stored, SimpleITK.GetArrayFromImage(image))
