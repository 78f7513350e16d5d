"""NRRD and MetaImage: types, encodings, spaces, units, detached data, and what is wrong with headers."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from foreign import HU, ORIGIN_MM, SCAN, SPACING_MM, Foreign, refused
from maesil.ct.geometry import Geometry
from maesil.ct.readers.options import ReadOptions
from maesil.ct.volume import Volume

RAW = HU.astype("<i2").tobytes()
SPACING = SPACING_MM[::-1]
UNKNOWN = "spacing of the voxels is unknown"
NRRD_TYPES = {"i1": "int8", "u1": "uchar", "i2": "short", "u2": "uint16", "i4": "int", "u4": "unsigned int"}
NRRD_TYPES |= {"i8": "long long", "u8": "uint64", "f4": "float", "f8": "double"}
META_TYPES = {"i1": "CHAR", "u1": "UCHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT", "u4": "UINT"}
META_TYPES |= {"i8": "LONG_LONG", "u8": "ULONG_LONG", "f4": "FLOAT", "f8": "DOUBLE"}
ROTATED = np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
"""A turn about the patient's long axis; a row per axis i, j, k."""

Fields = dict[str, str | None]


def no_hu(kind: str) -> str:
    """The reason why `prepare` refuses the scan in a type without negative numbers."""
    return "no voxel is below 0 HU" if kind[0] == "u" else ""


def stored(kind: str) -> tuple[np.ndarray, Volume]:
    """The scan in another type, within its range, and what is right then."""
    limits = np.iinfo(kind) if kind[0] in "iu" else np.iinfo("i2")
    array = HU.astype(np.int64).clip(max(limits.min, -32768), min(limits.max, 32767))
    return array.astype(kind), Volume(array.astype(np.int16), SCAN.geometry)


def nrrd_header(change: Fields | None = None, magic: str = "NRRD0004", end: str = "\n") -> bytes:
    """The header of the small scan; a field with the value None is left out."""
    i, j, k = SPACING
    fields: Fields = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "16 20 8",
        "space directions": f"({i},0,0) (0,{j},0) (0,0,{k})",
        "endian": "little",
        "encoding": "raw",
        "space origin": f"({ORIGIN_MM[0]},{ORIGIN_MM[1]},{ORIGIN_MM[2]})",
        **(change or {}),
    }
    lines = [magic, "# a comment", *(f"{name}: {text}" for name, text in fields.items() if text is not None)]
    return (end.join([*lines, "", ""])).encode()


def nrrd(folder: Path, change: Fields | None = None, data: bytes = RAW, name: str = "v.nrrd", **how: str) -> None:
    """One file with header and voxels."""
    (folder / name).write_bytes(nrrd_header(change, **how) + data)


def meta_header(change: Fields | None = None) -> bytes:
    """The header of the small scan; a field with the value None is left out."""
    fields: Fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": " ".join(map(str, ORIGIN_MM)),
        "ElementSpacing": " ".join(map(str, SPACING)),
        "DimSize": "16 20 8",
        "ElementType": "MET_SHORT",
        **(change or {}),
    }
    fields["ElementDataFile"] = fields.pop("ElementDataFile", "LOCAL")
    return "".join(f"{name} = {text}\n" for name, text in fields.items() if text is not None).encode()


def meta(folder: Path, change: Fields | None = None, data: bytes = RAW, name: str = "v.mha") -> None:
    """One file with header and voxels."""
    (folder / name).write_bytes(meta_header(change) + data)


def _detached(folder: Path, header: bytes, name: str, files: dict[str, bytes]) -> None:
    (folder / name).write_bytes(header)
    for other, data in files.items():
        (folder / other).write_bytes(data)


def _turned() -> Volume:
    axes = (ROTATED * np.array(SPACING)[:, None])[::-1].T
    return Volume(HU, Geometry(HU.shape, np.vstack([np.column_stack([axes, ORIGIN_MM]), [0, 0, 0, 1]])))


def _vectors(axes: np.ndarray) -> str:
    return " ".join("(" + ",".join(f"{value:.9g}" for value in row) + ")" for row in axes)


def _nrrd_types() -> list[Foreign]:
    found = []
    for (kind, name), order in product(NRRD_TYPES.items(), "<>"):
        array, right = stored(kind)
        change: Fields = {"type": name, "endian": "little" if order == "<" else "big"}
        data = array.astype(order + kind).tobytes()
        found.append(
            Foreign(f"nrrd_{kind}_{change['endian']}", partial(nrrd, change=change, data=data), right, no_hu(kind))
        )
    text = " ".join(map(str, HU.ravel())).encode()
    packed = {"gzip": gzip.compress(RAW, 1, mtime=0), "gz": gzip.compress(RAW, 9, mtime=0), "bzip2": bz2.compress(RAW)}
    packed |= {"bz2": bz2.compress(RAW, 1), "ascii": text, "text": text, "txt": text, "hex": RAW.hex().encode()}
    found += [
        Foreign(
            f"nrrd_{name}",
            partial(nrrd, change={"encoding": name}, data=data),
            alone="SimpleITK is built without bzip2" if name.startswith("bz") else "",
        )
        for name, data in packed.items()
    ]
    for name in ("gzip", "bzip2"):
        damaged = bytearray(packed[name])
        damaged[len(damaged) // 2] ^= 0xFF
        how = {"encoding": name}
        found.append(
            refused(f"nrrd_{name}_flipped", partial(nrrd, change=how, data=bytes(damaged)), "damaged|cut short")
        )
        found.append(
            refused(f"nrrd_{name}_cut", partial(nrrd, change=how, data=packed[name][:-9]), "damaged|cut short")
        )
    return found


def _nrrd_spaces() -> list[Foreign]:
    i, j, k = SPACING
    ras = {"space directions": f"({-i},0,0) (0,{-j},0) (0,0,{k})", "space origin": "(7,-11,30)"}
    las = {"space directions": f"({i},0,0) (0,{-j},0) (0,0,{k})", "space origin": "(-7,-11,30)"}
    cm = {"space directions": f"({i / 10},0,0) (0,{j / 10},0) (0,0,{k / 10})", "space origin": "(-0.7,1.1,3)"}
    metres = {
        "space directions": f"({i / 1e3},0,0) (0,{j / 1e3},0) (0,0,{k / 1e3})",
        "space origin": "(-.007,.011,.03)",
    }
    spacings: Fields = {"space": None, "space directions": None, "space origin": None, "spacings": f"{i} {j} {k}"}
    at_0 = Volume(HU, Geometry.from_parts(HU.shape, SPACING_MM))
    units = "they take the unit for mm"
    unnamed = "patient space"
    given = ReadOptions(missing_spacing_mm=SPACING)
    axes = ROTATED * np.array(SPACING)[:, None]
    found = [
        Foreign(f"nrrd_space_{name.replace('-', '_')}", partial(nrrd, change={"space": name, **change}))
        for name, change in (
            ("RAS", ras),
            ("right-anterior-superior", ras),
            ("LAS", las),
            ("left-anterior-superior", las),
            ("LPS", {}),
        )
    ]
    found += [
        Foreign("nrrd_oblique", partial(nrrd, change={"space directions": _vectors(axes)}), _turned()),
        Foreign(
            "nrrd_oblique_ras",
            partial(
                nrrd,
                change={"space": "RAS", "space origin": "(7,-11,30)", "space directions": _vectors(axes * [-1, -1, 1])},
            ),
            _turned(),
        ),
        Foreign("nrrd_spacings", partial(nrrd, change=spacings), at_0, warned=unnamed),
        Foreign(
            "nrrd_no_space", partial(nrrd, change={"space": None, "dimension": "3\nspace dimension: 3"}), warned=unnamed
        ),
        Foreign("nrrd_scanner_xyz", partial(nrrd, change={"space": "scanner-xyz"}), warned="of the scanner"),
        Foreign("nrrd_right_handed", partial(nrrd, change={"space": "3D-right-handed"}), warned="without relation"),
        refused(
            "nrrd_left_handed", partial(nrrd, change={"space": "3D-left-handed"}), "which side of the patient is left"
        ),
        refused("nrrd_space_odd", partial(nrrd, change={"space": "inside-out"}), "which side of the patient is left"),
        Foreign("nrrd_cm", partial(nrrd, change={**cm, "space units": '"cm" "cm" "cm"'}), alone=units),
        Foreign("nrrd_m", partial(nrrd, change={**metres, "space units": '"m" "m" "m"'}), alone=units),
        Foreign("nrrd_mm", partial(nrrd, change={"space units": '"mm" "mm" "mm"'})),
        Foreign("nrrd_units_empty", partial(nrrd, change={"space units": '"" "" ""'})),
        refused("nrrd_um", partial(nrrd, change={"space units": '"um" "um" "um"'}), "smaller than any part"),
        refused("nrrd_inches", partial(nrrd, change={"space units": '"in" "in" "in"'}), "unit of length is not known"),
        refused("nrrd_no_spacing", partial(nrrd, change={"space directions": None}), UNKNOWN),
        refused("nrrd_none", partial(nrrd, change={"space directions": f"({i},0,0) (0,{j},0) none"}), UNKNOWN),
        refused("nrrd_nan", partial(nrrd, change={**spacings, "spacings": f"{i} {j} nan"}), UNKNOWN),
        Foreign(
            "nrrd_none_given",
            partial(nrrd, change={"space directions": f"({i},0,0) (0,{j},0) none"}),
            options=given,
            alone="they take 1 mm",
        ),
        Foreign(
            "nrrd_no_spacing_given",
            partial(nrrd, change={"space directions": None}),
            options=given,
            alone="they take 1 mm",
        ),
        refused(
            "nrrd_singular", partial(nrrd, change={"space directions": "(1,0,0) (1,0,0) (0,0,1)"}), "cannot be inverted"
        ),
        refused("nrrd_sheared", partial(nrrd, change={"space directions": "(1,0,0) (0,1,0) (0,0.5,2)"}), "sheared"),
        refused(
            "nrrd_infinite", partial(nrrd, change={"space directions": "(inf,0,0) (0,1,0) (0,0,1)"}), "invalid value"
        ),
        refused("nrrd_two_vectors", partial(nrrd, change={"space directions": "(1,0,0) (0,1,0)"}), "invalid value"),
        refused("nrrd_flat_vectors", partial(nrrd, change={"space directions": "(1,0) (0,1) (0,0)"}), "invalid value"),
    ]
    return found


def _nrrd_files() -> list[Foreign]:
    planes = {f"p{k}.raw": HU[k].astype("<i2").tobytes() for k in range(8)}

    def detached(
        name: str, named: str, files: dict[str, bytes], change: Fields | None = None
    ) -> Callable[[Path], None]:
        header = nrrd_header({**(change or {}), "data file": named})
        return partial(_detached, header=header, name=name, files=files)

    listed = "LIST\n" + "\n".join(planes)
    skipped = b"two lines\nto skip\n" + RAW
    return [
        Foreign("nrrd_detached", detached("v.nhdr", "v.raw", {"v.raw": RAW})),
        Foreign("nrrd_detached_nrrd", detached("v.nrrd", "v.raw", {"v.raw": RAW})),
        Foreign("nrrd_detached_gzip", detached("v.nhdr", "v.gz", {"v.gz": gzip.compress(RAW)}, {"encoding": "gzip"})),
        Foreign(
            "nrrd_list",
            partial(
                _detached,
                header=nrrd_header({"data file": None})[:-1] + f"data file: {listed}\n".encode(),
                name="v.nhdr",
                files=planes,
            ),
        ),
        Foreign("nrrd_pattern", detached("v.nhdr", "p%d.raw 0 7 1 2", planes)),
        Foreign("nrrd_line_skip", partial(nrrd, change={"line skip": "2"}, data=skipped)),
        Foreign("nrrd_byte_skip", partial(nrrd, change={"byte skip": "5"}, data=b"12345" + RAW)),
        Foreign("nrrd_byte_skip_end", partial(nrrd, change={"byte skip": "-1"}, data=b"of any length" + RAW)),
        Foreign("nrrd_upper_case", partial(nrrd, name="V.NRRD"), alone="they know lower case"),
        Foreign("nrrd_crlf", partial(nrrd, end="\r\n"), alone="they may not know these ends of lines"),
        *(Foreign(f"nrrd_magic_{n}", partial(nrrd, magic=f"NRRD000{n}")) for n in (1, 3, 5)),
        refused("nrrd_data_missing", detached("v.nhdr", "other.raw", {}), "data file that its header names is missing"),
        refused("nrrd_data_short", detached("v.nhdr", "v.raw", {"v.raw": RAW[:-1]}), "cut short"),
        refused("nrrd_list_short", detached("v.nhdr", "p%d.raw 0 6 1 2", planes), "equal parts"),
        refused("nrrd_cut", partial(nrrd, data=RAW[:-1]), "cut short"),
        refused("nrrd_cut_line_skip", partial(nrrd, change={"line skip": "9"}, data=b""), "cut short|fewer lines"),
        refused("nrrd_empty", lambda folder: (folder / "v.nrrd").write_bytes(b"") and None, "does not begin with NRRD"),
        refused(
            "nrrd_no_header",
            lambda folder: (folder / "v.nrrd").write_bytes(b"NRRD") and None,
            "does not begin with NRRD",
        ),
        refused("nrrd_pattern_odd", detached("v.nhdr", "p%s.raw 0 7 1", planes), "invalid value"),
        refused("nrrd_pattern_huge", detached("v.nhdr", "p%d.raw 0 999999999 1", planes), "names no data file"),
    ]


def _nrrd_fields() -> list[Foreign]:
    missing = ("type", "dimension", "sizes", "encoding", "endian")
    invalid = {
        "type": ("block", "half", "short short"),
        "dimension": ("-1", "0", "99", "x", "3 3"),
        "endian": ("middle",),
        "sizes": ("16 20", "16 20 -8", "0 20 8", "16 20 8.5", "99999999999 20 8", "16 20 8 2"),
        "encoding": ("zrl", "lossy"),
        "byte skip": ("-2", "x"),
        "line skip": ("-1", "x"),
        "space origin": ("(1,2)", "none"),
    }
    found = [refused(f"nrrd_no_{name}", partial(nrrd, change={name: None}), f"no field '{name}'") for name in missing]
    for name, texts in invalid.items():
        for number, text in enumerate(texts):
            reason = "invalid value|not read|cut short|4 dimensions"
            found.append(
                refused(f"nrrd_bad_{name.replace(' ', '_')}_{number}", partial(nrrd, change={name: text}), reason)
            )
    four: Fields = {"dimension": "4", "sizes": "2 16 20 8", "space directions": "none (1,0,0) (0,1,0) (0,0,1)"}
    found += [
        refused(
            "nrrd_list_of_volumes",
            partial(nrrd, change={**four, "kinds": "list domain domain domain"}, data=RAW * 2),
            "4 dimensions",
        ),
        refused(
            "nrrd_vectors",
            partial(nrrd, change={**four, "kinds": "vector domain domain domain"}, data=RAW * 2),
            "vectors of 2",
        ),
        refused("nrrd_twice", partial(nrrd, change={"type": "short\ntype: float"}), "twice"),
        refused(
            "nrrd_2d",
            partial(
                nrrd,
                change={
                    "dimension": "2",
                    "sizes": "16 20",
                    "space": None,
                    "space origin": None,
                    "space directions": None,
                    "spacings": "1 1",
                },
            ),
            "at least 2 voxels",
        ),
        Foreign("nrrd_keys", partial(nrrd, change={"kinds": "domain domain domain", "content": "x\nnote:=a: b"})),
    ]
    return found


def _meta_types() -> list[Foreign]:
    found = []
    for (kind, name), order in product(META_TYPES.items(), "<>"):
        array, right = stored(kind)
        change: Fields = {"ElementType": f"MET_{name}", "BinaryDataByteOrderMSB": str(order == ">")}
        data = array.astype(order + kind).tobytes()
        found.append(
            Foreign(
                f"meta_{kind}_{'big' if order == '>' else 'little'}",
                partial(meta, change=change, data=data),
                right,
                no_hu(kind),
            )
        )
    packed = zlib.compress(RAW)
    flips = [bytearray(packed) for _ in range(4)]
    places = (4, len(packed) // 3, len(packed) // 2, -2)
    for data, at in zip(flips, places, strict=True):
        data[at] ^= 0xFF
    sized: Fields = {"CompressedData": "True", "CompressedDataSize": str(len(packed))}
    unsized: Fields = {"CompressedData": "True"}
    text = " ".join(map(str, HU.ravel())).encode()
    found += [
        Foreign("meta_zlib", partial(meta, change=sized, data=packed)),
        Foreign("meta_zlib_no_size", partial(meta, change=unsized, data=packed), alone="they return zeros"),
        Foreign("meta_text", partial(meta, change={"BinaryData": "False"}, data=text), alone="SimpleITK fails"),
        *(
            refused(f"meta_zlib_flip_{at}", partial(meta, change=sized, data=bytes(data)), "damaged|cut short")
            for at, data in zip(places, flips, strict=True)
        ),
        refused("meta_zlib_cut", partial(meta, change=sized, data=packed[:-5]), "cut short"),
        refused("meta_zlib_cut_no_size", partial(meta, change=unsized, data=packed[:-5]), "cut short"),
        refused("meta_zlib_short", partial(meta, change=unsized, data=zlib.compress(RAW[:-2])), "cut short"),
        refused("meta_not_zlib", partial(meta, change=unsized), "damaged|cut short"),
        refused("meta_cut", partial(meta, data=RAW[:-1]), "cut short"),
        refused("meta_text_cut", partial(meta, change={"BinaryData": "False"}, data=text[:500]), "cut short"),
        refused("meta_text_words", partial(meta, change={"BinaryData": "False"}, data=b"x " * 2560), "damaged"),
    ]
    return found


def _meta_places() -> list[Foreign]:
    rows = " ".join(f"{value:g}" for value in ROTATED.ravel())
    cm = {"DistanceUnits": "cm", "ElementSpacing": "0.09 0.11 0.25", "Offset": "-0.7 1.1 3"}
    given = ReadOptions(missing_spacing_mm=SPACING)
    origin = " ".join(map(str, ORIGIN_MM))
    return [
        Foreign("meta_oblique", partial(meta, change={"TransformMatrix": rows}), _turned()),
        Foreign("meta_rotation", partial(meta, change={"TransformMatrix": None, "Rotation": rows}), _turned()),
        Foreign("meta_orientation", partial(meta, change={"TransformMatrix": None, "Orientation": rows}), _turned()),
        Foreign("meta_position", partial(meta, change={"Offset": None, "Position": origin})),
        Foreign("meta_origin", partial(meta, change={"Offset": None, "Origin": origin})),
        Foreign("meta_no_matrix", partial(meta, change={"TransformMatrix": None})),
        Foreign("meta_cm", partial(meta, change=cm), alone="they may take the unit for mm"),
        refused("meta_um", partial(meta, change={"DistanceUnits": "um"}), "smaller than any part of a body"),
        refused("meta_inches", partial(meta, change={"DistanceUnits": "inch"}), "invalid value"),
        refused("meta_no_spacing", partial(meta, change={"ElementSpacing": None}), UNKNOWN),
        refused("meta_element_size", partial(meta, change={"ElementSpacing": None, "ElementSize": "1 1 1"}), UNKNOWN),
        refused("meta_spacing_0", partial(meta, change={"ElementSpacing": "0.9 1.1 0"}), UNKNOWN),
        Foreign(
            "meta_no_spacing_given",
            partial(meta, change={"ElementSpacing": None}),
            options=given,
            alone="they take 1 mm",
        ),
        refused("meta_spacing_negative", partial(meta, change={"ElementSpacing": "0.9 1.1 -2.5"}), "invalid value"),
        refused("meta_spacing_two", partial(meta, change={"ElementSpacing": "0.9 1.1"}), "invalid value"),
        refused(
            "meta_spacing_tiny", partial(meta, change={"ElementSpacing": "0.0009 0.0011 0.0025"}), "smaller than any"
        ),
        refused("meta_matrix_0", partial(meta, change={"TransformMatrix": "0 0 0 0 0 0 0 0 0"}), "invalid value"),
        refused("meta_matrix_singular", partial(meta, change={"TransformMatrix": "1 0 0 1 0 0 0 0 1"}), "inverted"),
        refused("meta_matrix_short", partial(meta, change={"TransformMatrix": "1 0 0 0 1 0"}), "invalid value"),
        refused("meta_offset_nan", partial(meta, change={"Offset": "nan 0 0"}), "invalid value"),
    ]


def _meta_files() -> list[Foreign]:
    planes = {f"p{k}.raw": HU[k].astype("<i2").tobytes() for k in range(8)}
    numbered = {f"q{k:03d}.raw": HU[k - 1].astype("<i2").tobytes() for k in range(1, 9)}

    def detached(name: str, change: Fields, files: dict[str, bytes], more: str = "") -> Callable[[Path], None]:
        return partial(_detached, header=meta_header(change) + more.encode(), name=name, files=files)

    return [
        Foreign("meta_detached", detached("v.mhd", {"ElementDataFile": "v.raw"}, {"v.raw": RAW})),
        Foreign("meta_list", detached("v.mhd", {"ElementDataFile": "LIST"}, planes, "\n".join(planes) + "\n")),
        Foreign("meta_pattern", detached("v.mhd", {"ElementDataFile": "q%03d.raw 1 8 1"}, numbered)),
        Foreign(
            "meta_pattern_short",
            detached("v.mhd", {"ElementDataFile": "q%03d.raw"}, numbered),
            alone="they may need a range",
        ),
        Foreign(
            "meta_header_size",
            detached("v.mhd", {"HeaderSize": "7", "ElementDataFile": "v.raw"}, {"v.raw": bytes(7) + RAW}),
        ),
        Foreign(
            "meta_header_size_end",
            detached("v.mhd", {"HeaderSize": "-1", "ElementDataFile": "v.raw"}, {"v.raw": bytes(99) + RAW}),
        ),
        Foreign("meta_upper_case", partial(meta, name="V.MHA"), alone="they know lower case"),
        Foreign(
            "meta_one_frame",
            partial(
                meta,
                change={
                    "NDims": "4",
                    "DimSize": "16 20 8 1",
                    "ElementSpacing": "0.9 1.1 2.5 1",
                    "Offset": "-7 11 30 0",
                    "TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
                },
            ),
        ),
        refused("meta_data_missing", detached("v.mhd", {"ElementDataFile": "v.raw"}, {}), "is missing"),
        refused("meta_data_short", detached("v.mhd", {"ElementDataFile": "v.raw"}, {"v.raw": RAW[:9]}), "cut short"),
        refused("meta_list_empty", detached("v.mhd", {"ElementDataFile": "LIST"}, planes), "lists 0 data files"),
        refused(
            "meta_list_short",
            detached("v.mhd", {"ElementDataFile": "LIST"}, planes, "p0.raw\np1.raw\np2.raw\n"),
            "equal parts",
        ),
        refused(
            "meta_list_gap",
            detached("v.mhd", {"ElementDataFile": "LIST"}, planes, "\n".join([*list(planes)[:7], "lost.raw"])),
            "is missing",
        ),
        refused("meta_empty", lambda folder: (folder / "v.mha").write_bytes(b"") and None, "no ElementDataFile"),
        refused("meta_folder_as_data", detached("v.mhd", {"ElementDataFile": "."}, {}), "not a regular file"),
    ]


def _meta_fields() -> list[Foreign]:
    invalid = {
        "NDims": ("-1", "0", "99", "x", "3 3", "2147483648"),
        "DimSize": ("16 20", "16 20 -8", "0 20 8", "16 20 x", "99999999999 20 8", "4000000 4000000 4000000"),
        "ElementType": ("MET_STRING", "MET_OTHER", ""),
        "ElementNumberOfChannels": ("3", "2", "x"),
        "ElementToIntensityFunctionSlope": ("2", "x"),
        "CompressedData": ("perhaps",),
        "HeaderSize": ("-2", "x"),
        "CompressedDataSize": ("-7",),
        "BinaryDataByteOrderMSB": ("middle",),
    }
    reason = "invalid value|not read|cut short|not HU|scale and an offset|damaged"
    found = [
        refused(f"meta_no_{n}", partial(meta, change={n: None}), f"no field '{n}'")
        for n in ("NDims", "DimSize", "ElementType")
    ]
    for name, texts in invalid.items():
        for number, text in enumerate(texts):
            packed: Fields = {"CompressedData": "True"} if name == "CompressedDataSize" else {}
            write = partial(meta, change={**packed, name: text})
            found.append(refused(f"meta_bad_{name}_{number}", write, reason))
    frames: Fields = {
        "NDims": "4",
        "DimSize": "16 20 4 2",
        "ElementSpacing": "1 1 1 1",
        "Offset": None,
        "TransformMatrix": None,
    }
    flat: Fields = {"NDims": "2", "DimSize": "16 20", "ElementSpacing": "1 1", "Offset": None, "TransformMatrix": None}
    return [
        *found,
        refused("meta_frames", partial(meta, change=frames), "4 dimensions"),
        refused("meta_flat", partial(meta, change=flat), "at least 2 voxels"),
        refused("meta_twice", partial(meta, change={"NDims": "3\nNDims = 2"}), "twice"),
    ]


INPUTS = (
    *_nrrd_types(),
    *_nrrd_spaces(),
    *_nrrd_files(),
    *_nrrd_fields(),
    *_meta_types(),
    *_meta_places(),
    *_meta_files(),
    *_meta_fields(),
)
