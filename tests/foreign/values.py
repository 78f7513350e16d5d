"""Values that are no Hounsfield units, and files in formats that are not read."""

from __future__ import annotations

import bz2
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np

from foreign import HU, SCAN, Foreign, refused
from foreign.nifti import IJK, header, nifti
from maesil.ct.volume import Volume

BODY = np.where(HU > 0, 40, -1000).transpose(2, 1, 0)
RANDOM = np.random.default_rng(1)
PLAIN = bytes(header()) + IJK.tobytes(order="F")


def _floats(array: np.ndarray) -> Callable[[Path], None]:
    return partial(nifti, voxels=array.astype("<f4"), code=16, bits=32)


def _values() -> list[Foreign]:
    standard = (IJK - IJK.mean()) / IJK.std()
    noted = "not Hounsfield units"
    nan, infinite = IJK.astype("f4"), IJK.astype("f4")
    nan[3, 4, 5], infinite[3, 4, 5] = np.nan, -np.inf
    metal = IJK.astype("<i4").copy()
    metal[0, 0, 0] = 70000
    right = HU.copy()
    right[0, 0, 0] = 32767
    shifted = (BODY.astype(np.int64) + 32768).astype("<u2")
    return [
        refused("values_0_to_1", _floats((IJK - IJK.min()) / np.ptp(IJK)), noted),
        refused(
            "values_0_to_255",
            partial(nifti, voxels=RANDOM.integers(0, 256, IJK.shape).astype("u1"), code=2, bits=8),
            noted,
        ),
        refused("values_plus_1024", partial(nifti, voxels=(BODY + 1024).astype("<i2")), noted),
        refused("values_plus_32768", partial(nifti, voxels=shifted, code=512), noted),
        refused("values_constant", partial(nifti, voxels=(IJK * 0 - 2000).astype("<i2")), "every voxel is -2000"),
        refused("values_constant_0", partial(nifti, voxels=(IJK * 0).astype("<i2")), "every voxel is 0"),
        refused("values_standardised", _floats(standard), noted),
        refused("values_all_below_air", partial(nifti, voxels=(BODY - 32768).astype("<i4"), code=8, bits=32), noted),
        refused("values_of_a_huge_slope", partial(nifti, scale=(1e30, 0.0)), "beyond 32768 HU"),
        refused("values_from_minus_1", _floats(2 * (IJK - IJK.min()) / np.ptp(IJK) - 1), noted),
        refused("values_labels", partial(nifti, voxels=(BODY > 0).astype("u1"), code=2, bits=8), noted),
        refused("values_nan", _floats(nan), "NaN or infinite"),
        refused("values_infinite", _floats(infinite), "NaN or infinite"),
        Foreign(
            "values_metal",
            partial(nifti, voxels=metal, code=8, bits=32),
            Volume(right, SCAN.geometry),
            alone="ours is clipped to 16 bits",
        ),
    ]


def _unread() -> list[Foreign]:
    pair = nibabel.Nifti1Pair(IJK, np.eye(4))

    def archive(folder: Path) -> None:
        with zipfile.ZipFile(folder / "v.zip", "w") as file:
            file.writestr("series/1", bytes(128) + b"DICM" + bytes(9))

    not_read = "not read"
    return [
        refused("pair", lambda folder: nibabel.save(pair, folder / "v.img"), not_read),
        refused("bzip2", lambda folder: (folder / "v.nii.bz2").write_bytes(bz2.compress(PLAIN)) and None, not_read),
        refused("zipped_dicom", archive, not_read),
        refused("freesurfer", lambda folder: (folder / "v.mgz").write_bytes(b"x") and None, not_read),
        refused("minc", lambda folder: (folder / "v.mnc").write_bytes(b"x") and None, not_read),
    ]


INPUTS = (*_values(), *_unread())
