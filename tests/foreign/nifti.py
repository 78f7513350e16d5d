"""NIfTI: types, byte orders, orientations, slopes, units, offsets, compression, and what is wrong with headers."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np

from foreign import HU, ORIGIN_MM, SCAN, SHAPE, SPACING_MM, Foreign, refused
from maesil.ct.geometry import Geometry
from maesil.ct.readers.options import ReadOptions
from maesil.ct.volume import Volume

CODES = {
    "u1": 2,
    "i2": 4,
    "i4": 8,
    "f4": 16,
    "c8": 32,
    "f8": 64,
    "i1": 256,
    "u2": 512,
    "u4": 768,
    "i8": 1024,
    "u8": 1280,
}
IJK = HU.transpose(2, 1, 0)
"""Voxels in the file's order: axes Left, Posterior, Superior."""
RAS = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
RAS[:3, 3] = (-ORIGIN_MM[0], -ORIGIN_MM[1], ORIGIN_MM[2])
SPACING = (SPACING_MM[2], SPACING_MM[1], SPACING_MM[0])
END_OF_BGZIP = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

Change = Callable[[bytearray], None]


def header(
    shape: tuple[int, ...] = IJK.shape,
    *,
    code: int = 4,
    bits: int = 16,
    order: str = "<",
    sform: np.ndarray | None = RAS,
    qform: bool = False,
    pixdim: tuple[float, ...] = SPACING,
    units: int = 2,
    scale: tuple[float, float] = (1.0, 0.0),
    offset: float = 352.0,
) -> bytearray:
    """A NIfTI-1 header by hand: no library corrects it."""
    raw = bytearray(352)
    put: Callable[..., None] = lambda at, form, *values: struct.pack_into(order + form, raw, at, *values)  # noqa: E731
    put(0, "i", 348)
    put(40, f"{len(shape) + 1}h", len(shape), *shape)
    put(70, "hh", code, bits)
    put(76, f"{len(pixdim) + 1}f", 1.0, *pixdim)
    put(108, "fff", offset, *scale)
    raw[123] = units
    put(252, "hh", int(qform), int(sform is not None))
    if qform:  # half a turn about the patient's axis, as a quaternion: axes run to Left, Posterior, Superior
        put(256, "6f", 0.0, 0.0, 1.0, *RAS[:3, 3])
    if sform is not None:
        for row in range(3):
            put(280 + 16 * row, "4f", *sform[row])
    raw[344:348] = b"n+1\0"
    return raw


def nifti(
    folder: Path, name: str = "v.nii", voxels: np.ndarray = IJK, change: Change | None = None, **how: Any
) -> None:
    """Writes one file; `change` edits its bytes before they are compressed."""
    raw = header(**{"shape": voxels.shape, **how}) + voxels.tobytes(order="F")
    if change is not None:
        change(raw)
    (folder / name).write_bytes(gzip.compress(raw, 1, mtime=0) if name.lower().endswith(".gz") else raw)


def field(at: int, form: str, *values: float) -> Change:
    """A change of one field of a header."""
    return lambda raw: struct.pack_into("<" + form, raw, at, *values)


def nifti2(folder: Path, order: str) -> None:
    """A NIfTI-2 file by hand."""
    raw = bytearray(544)
    put: Callable[..., None] = lambda at, form, *values: struct.pack_into(order + form, raw, at, *values)  # noqa: E731
    put(0, "i", 540)
    raw[4:12] = b"n+2\0\r\n\x1a\n"
    put(12, "hh8q", 4, 16, 3, *IJK.shape, 1, 1, 1, 1)
    put(104, "4d", 1.0, *SPACING)
    put(168, "qdd", 544, 1.0, 0.0)
    put(344, "ii", 0, 1)
    for row in range(3):
        put(400 + 32 * row, "4d", *RAS[row])
    put(500, "i", 2)
    (folder / "v.nii").write_bytes(raw + IJK.astype(order + "i2").tobytes(order="F"))


def _types() -> list[Foreign]:
    found = []
    for (kind, code), order in product(CODES.items(), "<>"):
        if kind == "c8":
            continue
        scale = {"u1": (8.0, -1024.0), "i1": (8.0, 0.0)}.get(kind, (1.0, -1024.0 if kind[0] == "u" else 0.0))
        stored = ((IJK.astype(np.float64) - scale[1]) / scale[0]).astype(order + kind)
        hu = stored.astype(np.float64).transpose(2, 1, 0) * scale[0] + scale[1]
        right = Volume(hu.astype(np.int16), SCAN.geometry)
        ending = ".nii" if order == "<" else ".nii.gz"
        how = {"code": code, "bits": 8 * stored.itemsize, "order": order, "scale": scale}
        name = f"type_{kind}_{'little' if order == '<' else 'big'}"
        found.append(Foreign(name, partial(nifti, name=f"v{ending}", voxels=stored, **how), right))
    return [*found, *(Foreign(f"nifti2_{n}", partial(nifti2, order=o)) for n, o in (("little", "<"), ("big", ">")))]


def _turned(order: tuple[int, ...], signs: tuple[int, ...], form: str) -> Foreign:
    """The scan with its axes exchanged and reversed, and an affine that says so."""
    voxels, affine = IJK.transpose(order), np.eye(4)
    affine[:3, :3] = RAS[:3, :3][:, order]
    affine[:3, 3] = RAS[:3, 3]
    for axis, sign in enumerate(signs):
        if sign < 0:
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
            voxels = np.flip(voxels, axis)
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    letters = "".join("xyz"[axis] + ("-" if sign < 0 else "") for axis, sign in zip(order, signs, strict=True))
    name = f"{form}_{letters.replace('-', 'n')}"
    if form == "sform":
        return Foreign(name, partial(nifti, voxels=voxels, sform=affine, pixdim=spacing))
    return Foreign(name, partial(_with_qform, voxels=voxels, affine=affine))


def _with_qform(folder: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    import nibabel

    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(None, code=0)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, folder / "v.nii.gz")


def _orientations() -> list[Foreign]:
    turns = list(product(permutations(range(3)), product((1, -1), repeat=3)))
    return [_turned(order, signs, form) for form in ("sform", "qform") for order, signs in turns]


def _scales() -> list[Foreign]:
    nan, inf = float("nan"), float("inf")
    found = []
    for name, scale in {
        "slope_0": (0.0, 0.0),
        "slope_0_intercept": (0.0, -1024.0),
        "slope_nan": (nan, nan),
        "slope_nan_intercept_0": (nan, 0.0),
        "slope_inf": (inf, 0.0),
    }.items():
        found.append(Foreign(name, partial(nifti, scale=scale), alone="a slope that is no number means no scaling"))
    found.append(Foreign("intercept_nan", partial(nifti, scale=(1.0, nan)), alone="a slope of 1 needs no intercept"))
    found.append(refused("slope_2_intercept_nan", partial(nifti, scale=(2.0, nan)), "slope of 2, but an intercept"))
    for slope, inter in ((2.0, 0.0), (0.5, -1000.0), (0.25, 3.5), (-1.0, 0.0)):
        hu = HU * np.float64(slope) + inter
        dtype = np.int16 if (hu == np.rint(hu)).all() else np.float32
        right = Volume(hu.astype(dtype), SCAN.geometry)
        found.append(Foreign(f"scale_{slope}_{inter}", partial(nifti, scale=(slope, inter)), right))
    return found


def _units_and_spacing() -> list[Foreign]:
    small = np.diag([0.001, 0.001, 0.001, 1.0]) @ RAS
    disagreeing = partial(nifti, pixdim=(SPACING[0], SPACING[1], SPACING[2] * 0.75))
    both = partial(disagreeing, qform=True)
    said = "spacings disagree by 33%: its sform says 0.9 x 1.1 x 2.5 mm, its pixdim 0.9 x 1.1 x 1.875 mm"
    thinner = Geometry.from_parts(SHAPE, (SPACING_MM[0] * 0.75, *SPACING_MM[1:]), ORIGIN_MM)
    given = ReadOptions(missing_spacing_mm=SPACING)
    lost = {"sform": None, "pixdim": (1.0, 1.0, 1.0), "units": 0}
    where = Geometry.from_parts(SHAPE, SPACING_MM, (-8.75, -10.45, -6.75)[::-1])
    odd = "neither says where the patient is"
    return [
        Foreign("unit_unknown", partial(nifti, units=0)),
        Foreign("unit_invalid", partial(nifti, units=5), warned="unit of length is invalid"),
        Foreign("unit_metre", partial(nifti, units=1, sform=small, pixdim=tuple(np.array(SPACING) / 1000))),
        refused("unit_micron", partial(nifti, units=3), "smaller than any part of a body"),
        refused("unit_metre_of_mm", partial(nifti, units=1), "larger than a body"),
        refused(
            "spacing_tiny", partial(nifti, sform=small, pixdim=tuple(np.array(SPACING) / 1000)), "smaller than any"
        ),
        refused("pixdim_0", partial(nifti, sform=None, qform=True, pixdim=(0.9, 1.1, 0.0)), "spacing .* is unknown"),
        refused("pixdim_nan", partial(nifti, sform=None, qform=True, pixdim=(0.9, 1.1, float("nan"))), "is unknown"),
        Foreign(
            "pixdim_0_given",
            partial(nifti, sform=None, qform=True, pixdim=(0.9, 1.1, 0.0)),
            options=given,
            alone="others take 1 mm",
        ),
        Foreign("pixdim_0_of_a_sform", partial(nifti, pixdim=(0.0, 0.0, 0.0)), alone="others take 1 mm"),
        refused("no_form_no_spacing", partial(nifti, **lost), "spacing .* is unknown"),
        Foreign(
            "no_form",
            partial(nifti, sform=None),
            Volume(HU[:, ::-1], where),
            warned="neither sform nor qform",
            alone=odd,
        ),
        refused("disagree", disagreeing, said),
        refused("disagree_both_codes", both, said),
        refused("identity_sform", partial(nifti, sform=np.eye(4)), "spacings disagree"),
        refused("identity_sform_10", partial(nifti, sform=10 * RAS), "spacings disagree"),
        Foreign("disagree_sform", disagreeing, options=ReadOptions(spacing_from="sform"), alone="they are not asked"),
        Foreign(
            "disagree_pixdim",
            disagreeing,
            Volume(HU, thinner),
            options=ReadOptions(spacing_from="pixdim"),
            alone="they are not asked",
        ),
        Foreign("pixdim_rounded", partial(nifti, pixdim=(0.9004, 1.1, 2.502)), alone="SimpleITK takes pixdim"),
        Foreign(
            "identity",
            partial(nifti, sform=np.eye(4), pixdim=(1.0, 1.0, 1.0)),
            Volume(HU[:, ::-1, ::-1], Geometry.from_parts(SHAPE, (1.0, 1.0, 1.0), (-15.0, -19.0, 0.0))),
            warned="the affine is the identity",
        ),
    ]


def _forms() -> list[Foreign]:
    singular, nothing, broken = RAS.copy(), np.zeros((4, 4)), RAS.copy()
    singular[:3, 2] = singular[:3, 1]
    broken[1, 1] = np.nan
    lean, shear = RAS.copy(), RAS.copy()
    lean[0, 2] = 0.0005 * SPACING[2]
    shear[0, 2] = 0.05 * SPACING[2]
    cut = "the sform is singular; the qform was used"
    found = [
        Foreign(
            f"sform_{name}_with_qform", partial(nifti, sform=form, qform=True), warned=cut, alone="they fail or guess"
        )
        for name, form in (("singular", singular), ("zero", nothing), ("nan", broken))
    ]
    found += [
        refused("sform_singular", partial(nifti, sform=singular), "spacings disagree|cannot be inverted"),
        refused("sform_zero", partial(nifti, sform=nothing), "cannot be inverted"),
        refused("sform_nan", partial(nifti, sform=broken), "not a 4x4 matrix of finite numbers"),
        refused("sform_sheared", partial(nifti, sform=shear), "sheared"),
        Foreign("qform_alone", partial(nifti, sform=None, qform=True)),
        Foreign("both_forms", partial(nifti, qform=True)),
        Foreign("forms_apart", partial(nifti, qform=True, change=field(268, "f", 40.0)), warned="mm apart"),
        Foreign("qform_nan", partial(nifti, qform=True, change=field(256, "f", np.nan)), alone="they warn or fail"),
        refused(
            "qform_nan_alone", partial(nifti, sform=None, qform=True, change=field(256, "f", np.nan)), "finite|invalid"
        ),
    ]
    lean_right = Volume(HU, SCAN.geometry)
    return [
        *found,
        Foreign(
            "residual_shear", partial(nifti, sform=lean), lean_right, alone="ours is at right angles", place_mm=0.05
        ),
    ]


def _offsets() -> list[Foreign]:
    def later(folder: Path) -> None:
        raw = header(offset=400.0)
        (folder / "v.nii").write_bytes(raw + bytes(48) + IJK.tobytes(order="F"))

    begins = "voxels begin at byte 352 or later"
    first = Foreign("offset_0", partial(nifti, offset=0.0), warned="vox_offset is 0", alone="they read the header")
    bad = {"100": 100.0, "negative": -1.0, "nan": float("nan"), "fraction": 352.5, "huge": 1e30}
    return [
        first,
        Foreign("offset_400", later),
        *(refused(f"offset_{name}", partial(nifti, offset=value), begins) for name, value in bad.items()),
        refused("offset_far", partial(nifti, offset=1e6), "cut short"),
    ]


def _packing() -> list[Foreign]:
    plain = bytes(header()) + IJK.tobytes(order="F")
    packed = gzip.compress(plain, 1, mtime=0)

    def holding(data: bytes, name: str = "v.nii.gz") -> Callable[[Path], None]:
        return lambda folder: (folder / name).write_bytes(data) and None

    def flipped(at: int) -> bytes:
        damaged = bytearray(packed)
        damaged[at] ^= 0xFF
        return bytes(damaged)

    unlike = "ending denies"
    members = gzip.compress(plain[:3000], mtime=0) + gzip.compress(plain[3000:], mtime=0)
    found = [
        Foreign("members", holding(members)),
        Foreign("bgzip", holding(packed + END_OF_BGZIP)),
        Foreign("zeros_after", holding(packed + bytes(512)), alone="they may stumble over what follows"),
        Foreign("longer", holding(gzip.compress(plain + bytes(64), mtime=0))),
        Foreign("longer_plain", holding(plain + bytes(64), "v.nii")),
        Foreign("upper_case", holding(packed, "V.NII.GZ"), alone="they know lower case"),
        Foreign("mixed_case", holding(packed, "v.Nii.Gz"), alone="they know lower case"),
        Foreign("upper_case_plain", holding(plain, "V.NII"), alone="they know lower case"),
        refused("plain_named_gz", holding(plain), unlike),
        refused("gz_named_plain", holding(packed, "v.nii"), unlike),
        refused("empty", holding(b""), "damaged"),
        refused("empty_plain", holding(b"", "v.nii"), "damaged"),
        refused("text", holding(b"no scan at all"), "neither gzip nor NIfTI"),
        refused("text_plain", holding(b"no scan at all" * 90, "v.nii"), "damaged"),
    ]
    share = [0.05, 0.2, 0.5, 0.8, 0.97]
    found += [refused(f"cut_{s}", holding(packed[: int(s * len(packed))]), "cut short|damaged") for s in share]
    found += [
        refused(f"cut_plain_{s}", holding(plain[: int(s * len(plain))], "v.nii"), "cut short|damaged") for s in share
    ]
    found += [refused(f"cut_{n}_bytes", holding(packed[:-n]), "cut short|damaged") for n in (1, 4, 8)]
    return [*found, *(refused(f"flip_{at}", holding(flipped(at)), "damaged|cut short") for at in (2, 40, -40, -6, -2))]


def _headers() -> list[Foreign]:
    four, five = np.stack([IJK] * 2, axis=-1), np.stack([IJK] * 2, axis=-1)[..., None, :]
    none = "invalid value|damaged"
    return [
        Foreign("one_frame", partial(nifti, voxels=IJK[..., None, None])),
        refused("frames", partial(nifti, voxels=four, pixdim=(*SPACING, 1.0)), "4 dimensions"),
        refused("vectors", partial(nifti, voxels=five, pixdim=(*SPACING, 1.0, 1.0)), "5 dimensions"),
        refused("flat", partial(nifti, voxels=IJK[..., 0], pixdim=SPACING), "at least 2 voxels"),
        refused("one_slice", partial(nifti, voxels=IJK[..., :1]), "at least 2 voxels"),
        *(refused(f"dim_{n}", partial(nifti, change=field(40, "h", n)), none) for n in (0, -1, 8, 300)),
        *(refused(f"size_{n}", partial(nifti, change=field(42, "h", n)), none) for n in (0, -1)),
        refused("sizes_huge", partial(nifti, change=field(42, "3h", 32767, 32767, 32767)), "cut short"),
        refused("complex", partial(nifti, code=32, bits=64, voxels=IJK.astype("c8")), "complex64"),
        refused("rgb", partial(nifti, code=128, bits=24), "RGB|cut short"),
        refused("bits", partial(nifti, code=1, bits=1), "datatype|not HU"),
        refused("datatype_999", partial(nifti, code=999), "datatype 999"),
        refused("cifti", partial(nifti, change=field(68, "h", 3001)), "CIFTI"),
        refused("pair_header", partial(nifti, change=lambda raw: raw.__setitem__(slice(344, 348), b"ni1\0")), "pair"),
        refused("analyze", partial(nifti, change=lambda raw: raw.__setitem__(slice(344, 348), b"\0\0\0\0")), "Analyze"),
        refused("header_size", partial(nifti, change=field(0, "i", 349)), "damaged"),
    ]


INPUTS = (
    *_types(),
    *_orientations(),
    *_scales(),
    *_units_and_spacing(),
    *_forms(),
    *_offsets(),
    *_packing(),
    *_headers(),
)
