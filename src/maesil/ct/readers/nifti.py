"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz): the header is checked field by field, voxels are streamed slab by slab."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from maesil.ct.geometry import Geometry
from maesil.ct.readers.base import Facts
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.readers.soundness import AGAIN, array_shape, without_spacing
from maesil.ct.readers.stored import Stored, gunzipped, require_regular
from maesil.ct.readers.volume_file import VolumeFile, VolumeFileReader
from maesil.errors import ScanError
from maesil.shapes import Shape3

DISAGREEMENT_MM = 0.1
"""Distance between a voxel's positions under sform and qform above which a warning is issued."""
SPACING_AGREEMENT = 0.01
"""Share by which the spacings of sform and pixdim may differ: some programs round pixdim to three digits."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres per unit of length, by its code: unknown, m, mm, µm."""
_LEAST_OFFSET = {348: 352, 540: 544}
"""The first byte that can hold voxels, by the size of the header."""
_GZIP = b"\x1f\x8b"
_CIFTI = range(3000, 3100)
"""Codes of a NIfTI-2 header's intent that mean CIFTI."""
_WIDEST_BYTES = 8

Affine = npt.NDArray[np.float64]


@final
class Nifti(VolumeFileReader):
    """NIfTI-1 and NIfTI-2; array axes are (k, j, i), so that the file's fastest axis stays the fastest.

    Warns:
        GeometryWarning: sform and qform disagree (the sform is used), one of them is invalid, or neither is set.
    """

    name = "NIfTI"
    endings = (".nii.gz", ".nii")

    def parsed(self, path: Path, options: ReadOptions) -> VolumeFile:
        """What the header says; raises ScanError if that is not a volume of grey values."""
        header = _header(path)
        if int(header["intent_code"]) in _CIFTI:
            raise ScanError("the file is CIFTI: it holds values on surfaces, not a volume", fix="give the CT itself")
        shape = array_shape(_sizes(header), " (nibabel.four_to_three)")
        notes: list[str] = []
        stored = _stored(path, header, shape, notes)
        scale = _scale(header)
        return VolumeFile(path, stored, lambda: _geometry(header, shape, options, notes), notes, scale)

    def facts(self, files: Sequence[Path], options: ReadOptions = STRICT) -> Facts:
        """The facts in the header; slices are along Superior-Inferior."""
        parsed = self.parsed(files[0], options)
        letters = parsed.geometry().orientation
        return parsed.facts(next(axis for axis, letter in enumerate(letters) if letter in "SI"))


def description(path: Path) -> str:
    """What a file's header says of its content, in the field descrip.

    Raises:
        ScanError: The header cannot be read; the libraries' own exceptions of damaged files are passed on.
    """
    return bytes(_header(path)["descrip"].item()).rstrip(b"\0").decode("ascii", "replace")


def stored_voxels(path: Path) -> npt.NDArray[Any]:
    """The numbers in a file, before any slope and intercept; nibabel's exceptions of damaged files are passed on."""
    import nibabel

    image: Any = nibabel.load(path)
    numbers: npt.NDArray[Any] = image.dataobj.get_unscaled()
    return numbers


def _header(path: Path) -> Any:
    """The header as a structure of nibabel, which has not changed any field."""
    from nibabel import Nifti1Header, Nifti2Header

    block = _first_bytes(path)
    sizes = _byte_orders(block[:4])
    if 540 in sizes and block[4:7] == b"n+2" and len(block) >= 540:
        return Nifti2Header(block[:540], check=False)
    if 348 not in sizes or len(block) < 348:
        raise ScanError("the file is damaged or has another format: it does not begin with a NIfTI header")
    magic = block[344:347]
    if magic != b"n+1":
        named = "the header of a pair .hdr and .img" if magic == b"ni1" else "an Analyze header, which has no left side"
        raise ScanError(f"the file begins with {named}, not with NIfTI", fix="convert it to .nii.gz")
    return Nifti1Header(block[:348], check=False)


def _first_bytes(path: Path) -> bytes:
    require_regular(path)
    with path.open("rb") as file:
        first = file.read(4)
    zipped = first[:2] == _GZIP
    if _named_gzip(path) and not zipped and not {*_byte_orders(first)} & {*_LEAST_OFFSET}:
        raise ScanError("the file is damaged or has another format: it is neither gzip nor NIfTI")
    if zipped != _named_gzip(path):
        other = path.name + ".gz" if zipped else path.name[:-3]
        what = "is compressed with gzip" if zipped else "is not compressed with gzip"
        raise ScanError(f"the file {what}, which its ending denies", fix=f"if it is NIfTI, rename it to {other}")
    with gunzipped(path) if zipped else path.open("rb") as stream:
        block: bytes = stream.read(540)
    return block


def _byte_orders(size: bytes) -> tuple[int, int]:
    """A whole number in both byte orders."""
    return int.from_bytes(size, "little"), int.from_bytes(size, "big")


def _named_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _sizes(header: Any) -> tuple[int, ...]:
    dim = [int(size) for size in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise ScanError(f"its header's field dim has the invalid value {dim}", fix=AGAIN)
    return tuple(dim[1 : dim[0] + 1])


def _stored(path: Path, header: Any, shape: Shape3, notes: list[str]) -> Stored:
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise ScanError(f"its header's datatype {int(header['datatype'])} is not known", fix=AGAIN) from error
    if dtype.kind not in "iuf" or dtype.itemsize > _WIDEST_BYTES:
        kind = "RGB" if dtype.fields else f"of type {dtype}"
        raise ScanError(f"the voxels are {kind}, not HU", fix="export the scan as grey values")
    first = _offset(header, notes)
    if _named_gzip(path):
        return Stored(shape, dtype, (path,), "gzip", skip=first)
    return Stored(shape, dtype, (path,), start=first)


def _offset(header: Any, notes: list[str]) -> int:
    """The first byte with voxels."""
    least, given = _LEAST_OFFSET[int(header["sizeof_hdr"])], float(header["vox_offset"])
    if given == 0:
        notes.append(f"vox_offset is 0; voxels were read from byte {least}, where the format lets them begin")
        return least
    if not (given.is_integer() and least <= given < 2**53):
        raise ScanError(
            f"its header's vox_offset is {given:g}, but voxels begin at byte {least} or later",
            fix="convert the file again",
        )
    return int(given)


def _scale(header: Any) -> tuple[float, float]:
    """Slope and intercept; (1, 0) if the header has no valid slope, as the format demands."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    if np.isfinite(inter):
        return slope, inter
    if slope == 1:
        return 1.0, 0.0
    raise ScanError(f"its header has a slope of {slope:g}, but an intercept of {inter}", fix="convert the file again")


def _geometry(header: Any, shape: Shape3, options: ReadOptions, notes: list[str]) -> Geometry:
    """The geometry of the array axes (k, j, i), in LPS mm."""
    ras = _ras(header, shape, options, notes)
    affine: Affine = (RAS_TO_LPS @ to_mm(header, notes) @ ras)[:, [2, 1, 0, 3]]
    return Geometry(shape, affine)


def to_mm(header: Any, notes: list[str]) -> Affine:
    """The scaling from a header's unit of length to mm."""
    code = int(header["xyzt_units"]) & 7
    if code not in MM_PER_UNIT:
        notes.append("the header's unit of length is invalid; millimetres were assumed")
    return np.diag([MM_PER_UNIT.get(code, 1.0)] * 3 + [1.0])


def _ras(header: Any, shape: Shape3, options: ReadOptions, notes: list[str]) -> Affine:
    """The affine of the file's axes (i, j, k) in RAS, in the file's unit."""
    sform = _sform(header)
    qform = _qform(header, options, notes, needed=sform is None)
    if sform is not None and _is_singular(sform) and qform is not None:
        notes.append("the sform is singular; the qform was used")
        return qform
    if sform is not None:
        _note_disagreement(sform, qform, header, shape, notes)
        return _with_agreed_spacing(sform, header, options, notes)
    if qform is not None:
        return qform
    notes.append("neither sform nor qform is set; spacing is from pixdim, the directions of the axes are assumed")
    bare = header.copy()
    bare["pixdim"][1:4] = _pixdim(header, options, "neither sform nor qform, and a pixdim that was never set")
    base: Affine = np.asarray(bare.get_base_affine(), dtype=np.float64)
    return base


def _sform(header: Any) -> Affine | None:
    if int(header["sform_code"]) <= 0:
        return None
    affine = np.eye(4)
    affine[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    return affine


def _qform(header: Any, options: ReadOptions, notes: list[str], *, needed: bool) -> Affine | None:
    from nibabel.spatialimages import HeaderDataError

    if int(header["qform_code"]) <= 0:
        return None
    known = header.copy()
    if needed:
        known["pixdim"][1:4] = _pixdim(header, options, "a pixdim of 0")
    elif not _all_positive(np.abs(known["pixdim"][1:4])):
        return None
    else:
        known["pixdim"][1:4] = np.abs(known["pixdim"][1:4])
    if float(known["pixdim"][0]) not in (-1.0, 1.0):
        known["pixdim"][0] = 1.0  # as the format demands
    try:
        qform: Affine = np.asarray(known.get_qform(coded=False), dtype=np.float64)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        if needed:
            raise ScanError("its header's only orientation, the qform, is invalid", fix=AGAIN) from error
        notes.append("the qform is invalid; the sform was used")
        return None
    return qform if np.isfinite(qform).all() or needed else None


def _pixdim(header: Any, options: ReadOptions, what: str) -> npt.NDArray[np.float64]:
    """The spacing in pixdim; what it does not tell comes from the options, in the file's unit."""
    steps = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    unset = int(header["qform_code"]) <= 0 and (steps == 1.0).all() and int(header["xyzt_units"]) & 7 == 0
    if _all_positive(steps) and not unset:
        return steps
    in_mm = np.diag(to_mm(header, []))[:3]
    known = np.zeros(3) if unset else steps * in_mm
    return np.array(without_spacing(what, options, known.tolist())) / in_mm


def _all_positive(steps: npt.NDArray[Any]) -> bool:
    return bool(np.isfinite(steps).all() and (steps > 0).all())


def _is_singular(affine: Affine) -> bool:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or min(lengths) < 1e-9:
        return True
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3)


def _with_agreed_spacing(sform: Affine, header: Any, options: ReadOptions, notes: list[str]) -> Affine:
    """The sform, unless its spacing is not that of pixdim: then the options decide.

    Raises:
        ScanError: They disagree, and the options do not say which one is right.
    """
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    if not _all_positive(pixdim) or not _all_positive(spacing):
        return sform
    if np.allclose(pixdim, spacing, rtol=SPACING_AGREEMENT, atol=0.0):
        if np.array_equal(sform, np.eye(4)):
            notes.append("the affine is the identity, as where a program has lost it; 1 mm was believed")
        return sform
    if options.spacing_from == "sform":
        return sform
    if options.spacing_from == "pixdim":
        return sform @ np.diag([*(pixdim / spacing), 1.0])
    ours, theirs = (" x ".join(f"{step:.4g}" for step in steps) for steps in (spacing, pixdim))
    apart = float(np.abs(spacing / pixdim - 1).max())
    raise ScanError(
        f"the header's spacings disagree by {apart:.0%}: its sform says {ours} mm, its pixdim {theirs} mm",
        fix="find out which one is right, and say so with --spacing-from sform or --spacing-from pixdim",
    )


def _note_disagreement(sform: Affine, qform: Affine | None, header: Any, shape: Shape3, notes: list[str]) -> None:
    if qform is None or not (np.isfinite(sform).all() and np.isfinite(qform).all()):
        return
    corners = np.array([(*index, 1.0) for index in product(*((0.0, n - 1.0) for n in shape[::-1]))])
    apart = np.linalg.norm((corners @ (to_mm(header, []) @ (sform - qform)).T)[:, :3], axis=1).max()
    if apart > DISAGREEMENT_MM:
        notes.append(f"sform and qform place the same voxel up to {apart:.1f} mm apart; the sform was used")
