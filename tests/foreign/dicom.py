"""DICOM: encodings, orders, orientations, scales, padding, copies, and series that are damaged, mixed or not sound."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from foreign import HU, SCAN, SPACING_MM, Foreign, refused
from maesil.ct.geometry import Geometry
from maesil.ct.readers.options import ReadOptions
from maesil.ct.volume import AIR_HU, Volume

Change = Callable[[int, Dataset], None]
UID = "1.2.826.0.1.3680043.8.498."
STEP_MM, ROW_MM, COLUMN_MM = SPACING_MM
_SERIES = itertools.count(1000)
SOURCE = "."
"""A reader is given the folder."""


def tags(**values: Any) -> Dataset:
    """A dataset with these tags."""
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def image(volume: Volume, index: int, uid: str) -> Dataset:
    """One slice of a volume, as a scanner writes it: unsigned, 1024 above HU."""
    geometry = volume.geometry
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{index + 1}"
    made.SeriesInstanceUID, made.StudyInstanceUID, made.FrameOfReferenceUID = uid, f"{uid}.0.1", f"{uid}.0.2"
    made.PatientName, made.PatientID, made.Modality = "Phantom^Small", "PHANTOM-1", "CT"
    made.ImageType, made.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], index + 1
    made.Rows, made.Columns = volume.shape[1:]
    made.PixelSpacing = [round(size, 8) for size in geometry.spacing_mm[1:]]
    made.ImageOrientationPatient = [round(float(x), 8) for x in (*geometry.direction[:, 2], *geometry.direction[:, 1])]
    place = geometry.index_to_mm(np.array([[index, 0.0, 0.0]]))[0]
    made.ImagePositionPatient = [round(float(value), 8) for value in place]
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = "1", "-1024", "HU"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    made.PixelData = (volume.array[index].astype(np.int64) + 1024).astype("<u2").tobytes()
    return made


def series(
    folder: Path,
    change: Change | None = None,
    volume: Volume = SCAN,
    *,
    name: str = "im{:02d}.dcm",
    only: Sequence[int] | None = None,
    save: Callable[[Dataset, Path], None] | None = None,
) -> str:
    """One file per slice; `change` edits each of them. Returns the UID of the series."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = f"{UID}{next(_SERIES)}"
    for index in range(len(volume.array)) if only is None else only:
        made = image(volume, index, uid)
        if change is not None:
            change(index, made)
        (save or _save)(made, folder / name.format(index))
    return uid


def _save(made: Dataset, path: Path) -> None:
    made.save_as(path, enforce_file_format=True)


def _save_as(syntax: str) -> Callable[[Dataset, Path], None]:
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian

    def save(made: Dataset, path: Path) -> None:
        if syntax == RLELossless:
            made.compress(syntax, generate_instance_uid=False)
            made.save_as(path, enforce_file_format=True)
            return
        made.file_meta.TransferSyntaxUID = syntax
        if not little:
            made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
            made["PixelData"].VR = "OW"
        made.save_as(path, implicit_vr=implicit, little_endian=little, enforce_file_format=True)

    return save


def _save_bare(implicit: bool, meta: bool) -> Callable[[Dataset, Path], None]:
    """Files without a preamble; without `meta`, they have no group 2 either."""

    def save(made: Dataset, path: Path) -> None:
        if meta:
            made.save_as(path, enforce_file_format=True)
            path.write_bytes(path.read_bytes()[132:])
            return
        bare = Dataset()
        bare.update(made)
        pydicom.dcmwrite(path, bare, implicit_vr=implicit, little_endian=True)

    return save


def put(name: str, value: Any, at: Sequence[int] | None = None) -> Change:
    """Sets a tag, in all slices or in those of `at`."""

    def change(index: int, made: Dataset) -> None:
        if at is None or index in at:
            setattr(made, name, value)

    return change


def drop(*names: str, at: Sequence[int] | None = None) -> Change:
    """Removes tags, in all slices or in those of `at`."""

    def change(index: int, made: Dataset) -> None:
        for name in names if at is None or index in at else ():
            delattr(made, name)

    return change


def move(offset: Callable[[int], tuple[float, float, float]]) -> Change:
    """Moves each slice by millimetres in LPS."""

    def change(index: int, made: Dataset) -> None:
        made.ImagePositionPatient = [
            float(a) + b for a, b in zip(made.ImagePositionPatient, offset(index), strict=True)
        ]

    return change


def place(along_mm: Sequence[float]) -> Change:
    """Places the slices at these millimetres along the patient."""
    first = SCAN.geometry.origin_mm
    return lambda index, made: setattr(made, "ImagePositionPatient", [first[0], first[1], first[2] + along_mm[index]])


def both(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(index: int, made: Dataset) -> None:
        for one in changes:
            one(index, made)

    return change


def stored(slope: float, intercept: float, dtype: str = "<i2") -> Change:
    """Stores the voxels with another scale and type."""

    def change(index: int, made: Dataset) -> None:
        made.PixelData = np.rint((HU[index] - intercept) / slope).astype(dtype).tobytes()
        made.PixelRepresentation = int(dtype[1] == "i")
        made.RescaleSlope, made.RescaleIntercept = f"{slope:g}", f"{intercept:g}"

    return change


def _twelve_bits(store: Callable[[np.ndarray], np.ndarray], *, signed: bool) -> Change:
    """Values of 12 of 16 bits; the other bits are anything."""

    def change(index: int, made: Dataset) -> None:
        made.PixelData = store(HU[index].astype(np.int64)).astype("<u2").tobytes()
        made.BitsStored, made.HighBit, made.PixelRepresentation = 12, 11, int(signed)
        made.RescaleIntercept = "0" if signed else "-1024"

    return change


def _four_bytes(index: int, made: Dataset) -> None:
    made.PixelData = (HU[index].astype("<u4") + 1024).tobytes()
    made.BitsAllocated, made.BitsStored, made.HighBit = 32, 32, 31


def _shuffled(folder: Path) -> None:
    numbers = random.Random(3).sample(range(900), len(HU))
    series(folder, lambda index, made: setattr(made, "InstanceNumber", numbers[index]), name="x{:02d}.dcm")
    for index, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{numbers[index]:03d}.dcm")


def _encodings() -> list[Foreign]:
    syntaxes = {
        "explicit": ExplicitVRLittleEndian,
        "implicit": ImplicitVRLittleEndian,
        "big_endian": ExplicitVRBigEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
        "rle": RLELossless,
    }
    scales = {
        "slope_2": stored(2, 0),
        "slope_half": stored(0.5, 8),
        "signed": stored(1, 0),
        "signed_byte": stored(8, 0, "<i2"),
        "slope_of_each": lambda index, made: stored((1, 2, 4, 8)[index % 4], -8 * index)(index, made),
        "12_bits": both(stored(1, -1024, "<u2"), put("BitsStored", 12), put("HighBit", 11)),
        "12_bits_signed": both(stored(1, 0), put("BitsStored", 12), put("HighBit", 11)),
        "12_bits_sign_not_extended": _twelve_bits(lambda hu: hu & 0xFFF, signed=True),
        "12_bits_below_an_overlay": _twelve_bits(lambda hu: (hu + 1024) | 0x8000, signed=False),
        "32_bits": _four_bytes,
    }
    names = ("{:02d}", "IM{:04d}.IMA", "A{:02d}.DCM", "1.2.826.0.1.{:d}", "{:02d}.dat")
    bare = {"implicit": (True, False), "explicit": (False, False), "with_meta": (False, True)}
    return [
        *(Foreign(f"dicom_{name}", partial(series, save=_save_as(syntax))) for name, syntax in syntaxes.items()),
        *(Foreign(f"dicom_{name}", partial(series, change=change)) for name, change in scales.items()),
        *(Foreign(f"dicom_name_{number}", partial(series, name=name)) for number, name in enumerate(names)),
        *(
            Foreign(f"dicom_bare_{kind}", partial(series, name="im{:02d}", save=_save_bare(*how)))
            for kind, how in bare.items()
        ),
        Foreign("dicom_shuffled", _shuffled),
    ]


def _orientations() -> list[Foreign]:
    found = []
    for orientation in ("SPL", "IPL", "SAR", "PSL", "LSP", "RIA", "AIL", "LPS"):
        volume = SCAN.reorient(orientation)
        found.append(Foreign(f"dicom_axes_{orientation}", partial(series, volume=volume)))
    turn = np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    oblique = Volume(HU, Geometry.from_parts(HU.shape, SPACING_MM, (4.0, 5.0, 6.0), turn @ np.eye(3)[:, ::-1]))
    return [*found, Foreign("dicom_oblique", partial(series, volume=oblique), oblique)]


def _beside(write: Callable[[Path], object], change: Change | None = None) -> Callable[[Path], None]:
    """A sound series, and something else in its folder."""

    def both_of_them(folder: Path) -> None:
        series(folder, change)
        write(folder)

    return both_of_them


def _copied(folder: Path) -> None:
    shutil.copy(folder / "im03.dcm", folder / "copy of im03.dcm")


def _hidden(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name(".aside"))
    folder.with_name(".aside").rename(folder / ".Trash")


def _directory(folder: Path) -> None:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    made.FileSetID = "CD"
    made.save_as(folder / "DICOMDIR", enforce_file_format=True)


def _of_the_series(folder: Path, change: Change) -> None:
    made = pydicom.dcmread(folder / "im00.dcm")
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{UID}77"
    change(0, made)
    _save(made, folder / "zz.dcm")


def _scout(_: int, made: Dataset) -> None:
    made.ImageType, made.Rows, made.Columns = ["ORIGINAL", "PRIMARY", "LOCALIZER"], 10, 32
    made.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def _screenshot(_: int, made: Dataset) -> None:
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    drop("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")(0, made)


def _padded(value: int, signed: bool, rows: int = 3) -> Change:
    def change(index: int, made: Dataset) -> None:
        voxels = HU[index].astype(np.int64) + (0 if signed else 1024)
        voxels[:rows] = value
        kind = "<i2" if signed else "<u2"
        made.PixelData, made.PixelRepresentation = voxels.astype(np.uint16).view(kind).tobytes(), int(signed)
        made.RescaleIntercept = "0" if signed else "-1024"
        made.add_new(0x00280120, "SS" if value < 0 else "US", value)

    return change


def _air_above(rows: int) -> Volume:
    hu = HU.copy()
    hu[:, :rows] = AIR_HU
    return Volume(hu, SCAN.geometry)


def _companions() -> list[Foreign]:
    texts = {"README.txt": "a", "157.xml": "<a/>", "notes": "no image", "Thumbs.db": "", "empty.txt": ""}

    def write_texts(folder: Path) -> None:
        for name, text in texts.items():
            (folder / name).write_text(text)

    def links(*names: str) -> Callable[[Path], object]:
        return lambda folder: [(folder / name).symlink_to(".") for name in names]

    def spread(folder: Path) -> None:
        for index in range(len(HU)):
            made = folder / f"S{index:02d}"
            made.mkdir()
            (folder / f"im{index:02d}.dcm").rename(made / "image")

    def resource_fork(folder: Path) -> None:
        (folder / "._im00.dcm").write_bytes(b"\0\5\x16\7Mac OS X")

    return [
        Foreign("dicom_beside_texts", _beside(write_texts)),
        Foreign("dicom_beside_pipe", _beside(lambda folder: os.mkfifo(folder / "im99.dcm"))),
        Foreign("dicom_beside_device", _beside(lambda folder: (folder / "im99.dcm").symlink_to("/dev/zero"))),
        Foreign("dicom_beside_resource_fork", _beside(resource_fork)),
        Foreign("dicom_beside_folder_with_ending", _beside(lambda folder: (folder / "x.dcm").mkdir())),
        Foreign("dicom_bytes_after_the_pixels", _spoilt(lambda data: data + bytes(99), range(len(HU)))),
        Foreign(
            "dicom_link_to_a_slice",
            _beside(lambda folder: (folder / "link.dcm").symlink_to("im03.dcm")),
            warned="1 slice is a copy of another one",
        ),
        Foreign("dicom_beside_directory", _beside(_directory)),
        Foreign("dicom_one_loop", _beside(links("a"))),
        Foreign("dicom_two_loops", _beside(links("a", "b"))),
        Foreign("dicom_hidden_copy", _beside(_hidden)),
        Foreign("dicom_folder_of_each", _beside(spread)),
        Foreign("dicom_copy", _beside(_copied), warned="1 slice is a copy of another one"),
        Foreign(
            "dicom_scout",
            _beside(lambda folder: _of_the_series(folder, _scout)),
            warned="1 localizer was left out",
        ),
        Foreign(
            "dicom_screenshot",
            _beside(lambda folder: _of_the_series(folder, _screenshot)),
            warned="1 screenshot without a position was left out",
        ),
    ]


def _headers() -> list[Foreign]:
    unscaled = both(stored(1, 0), drop("RescaleSlope", "RescaleIntercept"))
    empty = both(stored(1, 0), put("RescaleSlope", ""), put("RescaleIntercept", ""))
    half = range(4, 8)
    sound: dict[str, Change] = {
        "no_series_uid": drop("SeriesInstanceUID"),
        "no_patient": drop("PatientID", "PatientName"),
        "spacing_tag_negative": put("SpacingBetweenSlices", -20),
        "spacing_tag_wrong": put("SpacingBetweenSlices", 0.1),
        "rescale_type_absent": drop("RescaleType"),
        "rescale_type_empty": put("RescaleType", ""),
        "rounded": move(lambda index: (0, 0, 0.04 * (-1) ** index * (0 < index < 7))),
        "nearly_even": move(lambda index: (0, 0, 2e-6 * index)),
        "frame_of_reference_of_each": lambda index, made: put("FrameOfReferenceUID", f"1.2.{index}")(index, made),
        "acquisition_of_each": lambda index, made: put("AcquisitionNumber", index)(index, made),
    }
    warned: dict[str, tuple[Change, str]] = {
        "unscaled": (unscaled, "RescaleSlope or RescaleIntercept is missing in 8 of 8 slices"),
        "scale_empty": (empty, "RescaleSlope or RescaleIntercept is missing"),
        "rescale_type_open": (put("RescaleType", "US"), "leaves the unit of the values open"),
        "two_frames_of_reference": (put("FrameOfReferenceUID", "1.2.3", at=half), "2 frames of reference"),
        "two_kernels": (put("ConvolutionKernel", "B70f", at=half), r"2 reconstructions \(their kernels differ\)"),
    }
    metal = _air_above(3)
    return [
        *(Foreign(f"dicom_{name}", partial(series, change=change)) for name, change in sound.items()),
        *(
            Foreign(f"dicom_{name}", partial(series, change=change), warned=reason)
            for name, (change, reason) in warned.items()
        ),
        Foreign("dicom_padding_above_metal", partial(series, change=_padded(63536, signed=False)), metal),
        Foreign("dicom_padding_negative_unsigned", partial(series, change=_padded(-2000, signed=False)), metal),
        Foreign("dicom_padding_below_air", partial(series, change=_padded(-2000, signed=True)), metal),
        Foreign("dicom_padding_of_tissue", partial(series, change=_padded(1060, signed=False)), metal),
        Foreign("dicom_padding_unused", partial(series, change=put("PixelPaddingValue", 4000))),
    ]


def enhanced(
    folder: Path,
    frames: Sequence[int] = tuple(range(len(HU))),
    *,
    groups: int | None = None,
    per_frame: bool = False,
    change: Callable[[Dataset], None] | None = None,
    uid: str | None = None,
    name: str = "e.dcm",
) -> None:
    """One file with these slices as frames, in this order."""
    uid = uid or f"{UID}{next(_SERIES)}"
    made = image(SCAN, 0, uid)
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{uid}.9.{ord(name[0])}"
    measures, plane = tags(PixelSpacing=made.PixelSpacing), tags(ImageOrientationPatient=made.ImageOrientationPatient)
    scale = tags(RescaleSlope="1", RescaleIntercept="-1024", RescaleType="HU")
    drop("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")(0, made)
    drop("RescaleSlope", "RescaleIntercept", "RescaleType")(0, made)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    made.NumberOfFrames = len(frames)
    shared = {"PixelMeasuresSequence": [measures], "PlaneOrientationSequence": [plane]}
    of_each = {"PixelValueTransformationSequence": [scale]} if per_frame else {}
    made.SharedFunctionalGroupsSequence = [
        tags(**shared, **({} if per_frame else {"PixelValueTransformationSequence": [scale]}))
    ]
    made.PerFrameFunctionalGroupsSequence = [
        tags(PlanePositionSequence=[tags(ImagePositionPatient=image(SCAN, index, uid).ImagePositionPatient)], **of_each)
        for index in (tuple(frames) * 2)[: groups or len(frames)]
    ]
    made.PixelData = (HU[list(frames)].astype(np.int64) + 1024).astype("<u2").tobytes()
    if change is not None:
        change(made)
    _save(made, folder / name)


def _halves(folder: Path) -> None:
    uid = f"{UID}{next(_SERIES)}"
    enhanced(folder, range(4), uid=uid, name="1.dcm")
    enhanced(folder, range(4, 8), uid=uid, name="2.dcm")


def _frames() -> list[Foreign]:
    def iodine(made: Dataset) -> None:
        made.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleType = "MGML"

    def no_spacing(made: Dataset) -> None:
        del made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence

    def material(made: Dataset) -> None:
        shared = made.SharedFunctionalGroupsSequence[0]
        shared.CTImageFrameTypeSequence = [tags(FrameType=["DERIVED", "PRIMARY", "VOLUME", "MAT_VALUE_BASED"])]
        shared.PixelValueTransformationSequence[0].RescaleType = "US"

    def no_groups(made: Dataset) -> None:
        del made.PerFrameFunctionalGroupsSequence

    def classic(made: Dataset) -> None:
        no_groups(made)
        del made.SharedFunctionalGroupsSequence
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage
        made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
        made.PixelSpacing = [1, 1]

    return [
        Foreign("dicom_enhanced", enhanced),
        Foreign("dicom_enhanced_per_frame", partial(enhanced, per_frame=True)),
        Foreign("dicom_enhanced_shuffled", partial(enhanced, frames=(3, 1, 7, 0, 2, 6, 5, 4))),
        Foreign("dicom_enhanced_two_files", _halves),
        Foreign(
            "dicom_enhanced_copy",
            partial(enhanced, frames=(0, 1, 2, 3, 3, 4, 5, 6, 7)),
            warned="1 slice is a copy of another one",
        ),
        refused(
            "dicom_enhanced_one_missing", partial(enhanced, frames=(0, 1, 2, 4, 5, 6, 7)), "1 slice is missing: .* 5.00"
        ),
        refused("dicom_enhanced_no_spacing", partial(enhanced, change=no_spacing), "PixelSpacing is missing"),
        refused("dicom_enhanced_frame_type", partial(enhanced, change=material), "by ImageType MAT_VALUE_BASED"),
        refused("dicom_enhanced_fewer_groups", partial(enhanced, groups=5), "8 frames, but positions for 5"),
        refused(
            "dicom_enhanced_more_groups", partial(enhanced, frames=range(5), groups=8), "5 frames, but positions for 8"
        ),
        refused("dicom_enhanced_no_groups", partial(enhanced, change=no_groups), "no per-frame positions"),
        refused("dicom_enhanced_iodine", partial(enhanced, change=iodine), "not Hounsfield units"),
        refused("dicom_frames_without_positions", partial(enhanced, change=classic), "8 frames, but no positions"),
    ]


def _twice(change: Change) -> Callable[[Path], None]:
    """A series whose every place has two images, which `change` tells apart."""

    def write(folder: Path) -> None:
        uid = series(folder)
        for index, path in enumerate(sorted(folder.iterdir())):
            made = pydicom.dcmread(path)
            made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{uid}.9.{index + 1}"
            made.PixelData = (HU[index].astype(np.int64) + 1000).astype("<u2").tobytes()
            change(index, made)
            _save(made, folder / f"second{index:02d}.dcm")

    return write


def _same_name(index: int, made: Dataset) -> None:
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{made.SeriesInstanceUID}.{index + 1}"


def _mixed() -> list[Foreign]:
    shared = "8 of 16 slices have the position of another slice"
    cases: dict[str, tuple[Change, str]] = {
        "acquisitions": (put("AcquisitionNumber", 3), f"{shared}: the series mixes 2 acquisitions"),
        "kernels": (put("ConvolutionKernel", "B70f"), rf"{shared}: the series mixes 2 reconstructions \(their kernels"),
        "phases": (lambda *_: None, f"{shared}$"),
        "pixels_of_one_name": (_same_name, f"{shared}$"),
        "patients": (put("PatientID", "PHANTOM-2"), "slices of 2 patients"),
    }
    return [refused(f"dicom_twice_{name}", _twice(change), reason) for name, (change, reason) in cases.items()]


def _places() -> list[Foreign]:
    aside, uneven, tilt = "beside the line of the others", "unevenly spaced", "gantry tilt"
    cases: dict[str, tuple[Change, str]] = {
        "one_aside": (move(lambda index: (30.0 * (index == 4), 0, 0)), f"1 slice lies {aside}, by up to 30.0 mm"),
        "first_aside": (move(lambda index: (0, 3.0 * (index == 0), 0)), f"1 slice lies {aside}, by up to 3.0 mm"),
        "middle_aside": (move(lambda index: (30.0 * (2 <= index < 6), 0, 0)), aside),
        "zigzag": (move(lambda index: (0.5 * (-1) ** index, 0, 0)), aside),
        "tilt": (move(lambda index: (0, 0.8 * index, 0)), f"{tilt}.* leans by 17.7 degrees"),
        "small_tilt": (move(lambda index: (0, 0.04 * index, 0)), f"{tilt}.* leans by 0.9 degrees"),
        "one_uneven": (place([0, 2.5, 5, 7.5, 10, 12.5, 15, 16.3]), uneven),
        "creep": (place(np.cumsum([0, 5, 5, 5.2, 5.4, 5.6, 5.8, 6]).tolist()), uneven),
        "mixed_spacing": (place([0, 3, 6, 9, 15, 21, 27, 33]), "4 slices are missing"),
        "odd_spacing": (place([0, 7.5, 20, 27.5, 40, 47.5, 60, 67.5]), uneven),
        "hole": (place([0, 1, 2, 3, 4, 70, 71, 72]), "65 slices are missing: .* 66.00 mm .* the widest 4.0 mm after"),
    }
    missing = "1 slice is missing: gaps of up to 5.00 mm where 2.50 mm is usual, the widest 2.5 mm after"
    return [
        *(refused(f"dicom_{n}", partial(series, change=change), reason) for n, (change, reason) in cases.items()),
        refused("dicom_one_missing", partial(series, only=[0, 1, 3, 4, 5, 6, 7]), missing),
        refused("dicom_one_slice", partial(series, only=[3]), "needs 2 image planes or more, not 1"),
    ]


def _resampled() -> list[Foreign]:
    filled = HU.copy()
    filled[2] = np.rint((HU[1].astype(np.float64) + HU[3]) / 2)
    leaning = np.full((8, 27, 16), AIR_HU, dtype=np.int16)
    for index in range(8):
        leaning[index, index : index + 20] = HU[index]
    cases = {
        "uneven": (None, [0, 1, 3, 4, 5, 6, 7], Volume(filled, SCAN.geometry), ReadOptions(resample_uneven=True)),
        "tilt": (
            move(lambda index: (0, ROW_MM * index, 0)),
            None,
            Volume(leaning, Geometry.from_parts(leaning.shape, SPACING_MM, SCAN.geometry.origin_mm)),
            ReadOptions(resample_tilt=True),
        ),
        "tolerance": (
            move(lambda index: (0, 0, 0.3 * (index == 3))),
            None,
            SCAN,
            ReadOptions(slice_tolerance_mm=0.5),
        ),
    }
    warned = {
        "uneven": "resampled to every 2.50 mm",
        "tilt": "the gantry tilt of 23.7 degrees was undone",
        "tolerance": "",
    }
    return [
        *(
            Foreign(
                f"dicom_resample_{name}", partial(series, change=change, only=only), right, "", warned[name], options
            )
            for name, (change, only, right, options) in cases.items()
        ),
        refused(
            "dicom_resample_hole",
            partial(series, change=place([0, 1, 2, 3, 4, 70, 71, 72])),
            "65 slices are missing",
            ReadOptions(resample_uneven=True),
        ),
    ]


def _not_hu() -> list[Foreign]:
    units = ("MGML", "Z_EFF", "ED", "EDW", "PCT", "HU_MOD", "OD")
    reason = "not Hounsfield units"
    material = both(drop("RescaleType"), put("ImageType", ["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"]))
    maps = {kind: put("ImageType", ["DERIVED", "SECONDARY", "AXIAL", kind]) for kind in ("IODINE", "Z_EFF", "CBF")}
    unnamed = drop("RescaleType")
    return [
        *(refused(f"dicom_map_{kind}", partial(series, change=change), reason) for kind, change in maps.items()),
        *(
            refused(f"dicom_map_{kind}_of_no_unit", partial(series, change=both(unnamed, change)), reason)
            for kind, change in maps.items()
        ),
        refused("dicom_slope_negative", partial(series, change=put("RescaleSlope", "-1")), "RescaleSlope is negative"),
        refused("dicom_slope_huge", partial(series, change=put("RescaleSlope", "1e30")), "an impossible value"),
        refused("dicom_slope_of_two_values", partial(series, change=put("RescaleSlope", ["1", "2"])), "is damaged"),
        refused("dicom_lookup_table", partial(series, change=_lookup_table), "become HU by a table"),
        refused("dicom_constant", partial(series, change=put("PixelData", bytes(640))), "every voxel is -1024"),
        *(refused(f"dicom_unit_{unit}", partial(series, change=put("RescaleType", unit)), reason) for unit in units),
        refused("dicom_one_map", partial(series, change=put("RescaleType", "MGML", at=[5])), reason),
        refused("dicom_material", partial(series, change=material), reason),
        refused("dicom_slope_0", partial(series, change=put("RescaleSlope", "0")), "RescaleSlope is 0"),
        refused("dicom_raw_values", partial(series, change=drop("RescaleSlope", "RescaleIntercept")), reason),
        refused("dicom_mr", partial(series, change=put("Modality", "MR")), "of modality MR"),
        refused("dicom_no_modality", partial(series, change=drop("Modality")), "without a modality"),
    ]


def _colour(_: int, made: Dataset) -> None:
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
    made.PixelData = bytes(made.Rows * made.Columns * 3)


def _lookup_table(index: int, made: Dataset) -> None:
    unscaled = ("RescaleSlope", "RescaleIntercept", "RescaleType")
    drop(*unscaled)(index, made)
    table = tags(LUTDescriptor=[4096, 0, 16], ModalityLUTType="HU")
    table.add_new(0x00283006, "OW", np.arange(4096, dtype="<u2").tobytes())
    made.ModalityLUTSequence = [table]


def _uid_of_its_own(index: int, made: Dataset) -> None:
    made.SeriesInstanceUID = f"{made.SeriesInstanceUID}.{index + 1}"


def _spoilt(spoil: Callable[[bytes], bytes], at: Sequence[int]) -> Callable[[Path], None]:
    """A series in which the bytes of some files are changed."""

    def write(folder: Path) -> None:
        series(folder)
        for index in at:
            path = folder / f"im{index:02d}.dcm"
            path.write_bytes(spoil(path.read_bytes()))

    return write


def _damaged() -> list[Foreign]:
    missing = {name: drop(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")}
    cases: dict[str, tuple[Change, str]] = {
        **{f"no_{name}": (change, f"{name} is missing") for name, change in missing.items()},
        "spacing_empty": (put("PixelSpacing", None), "PixelSpacing is missing"),
        "spacing_zero": (put("PixelSpacing", [0, 1], at=[3]), "impossible values"),
        "spacing_negative": (put("PixelSpacing", [-1, 1]), "impossible values"),
        "spacing_single": (put("PixelSpacing", [1], at=[2]), "a tag of the image is damaged"),
        "position_of_two": (put("ImagePositionPatient", [1, 2], at=[2]), "a tag of the image is damaged"),
        "directions_skewed": (put("ImageOrientationPatient", [1, 0, 0, 0.5, 0.9, 0]), "not at right angles"),
        "directions_differ": (put("ImageOrientationPatient", [1, 0, 0, 0, 0, -1], at=[2]), "differ in direction"),
        "spacings_differ": (put("PixelSpacing", [1.1, 0.8], at=[2]), "differ in pixel spacing"),
        "sizes_differ": (put("Rows", 16, at=[2]), "differ in size"),
        "pixels_short": (put("PixelData", b"\0" * 10, at=[1]), "damaged or cut short"),
        "pixels_missing": (drop("PixelData", at=[1]), "has no pixels"),
        "colour": (_colour, "in colour"),
        "palette": (put("PhotometricInterpretation", "PALETTE COLOR"), "in colour"),
        "high_bits": (both(put("BitsStored", 12), put("HighBit", 15)), "do not fill the lowest bits"),
        "frames_of_nothing": (put("NumberOfFrames", 8), "8 frames, but no positions"),
        "no_rows": (put("Rows", 0), "empty"),
        "series_of_each": (_uid_of_its_own, "8 CT series of one image each"),
        "spacing_tiny": (put("PixelSpacing", [0.0008, 0.0007]), "smaller than any part of a body"),
        "spacing_huge": (put("PixelSpacing", [800, 700]), "larger than a body"),
        "one_of_mr": (put("Modality", "MR", at=[3]), "of modality MR"),
        "only_scouts": (put("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "only localizers"),
        "only_screenshots": (_screenshot, "only screenshots"),
    }
    every = range(len(HU))
    return [
        *(refused(f"dicom_{n}", partial(series, change=change), reason) for n, (change, reason) in cases.items()),
        refused("dicom_cut_in_pixels", _spoilt(lambda data: data[:-200], [4]), "cut short"),
        refused("dicom_cut_in_header", _spoilt(lambda data: data[:400], every), "without a modality"),
        refused("dicom_all_empty", _spoilt(lambda _: b"", every), "8 DICOM files in a folder: the file is empty"),
        refused("dicom_all_garbage", _spoilt(lambda _: b"no image" * 99, every), "cannot be read as DICOM"),
        refused(
            "dicom_damaged_uid",
            _spoilt(lambda data: data.replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x00UK"), every),
            "cannot be read as DICOM",
        ),
    ]  # fmt: skip


ALONE = {
    "dicom_bare_with_meta": "GDCM refuses meta information without a preamble",
    "dicom_folder_of_each": "GDCM was given one folder",
    "dicom_copy": "GDCM stacks copies",
    "dicom_link_to_a_slice": "GDCM stacks copies",
    "dicom_scout": "GDCM stacks all images of a series",
    "dicom_screenshot": "GDCM stacks all images of a series",
    "dicom_beside_pipe": "GDCM would wait for it",
    "dicom_beside_device": "GDCM would read it without end",
    **{
        f"dicom_padding_{kind}": "ours is air"
        for kind in ("above_metal", "negative_unsigned", "below_air", "of_tissue")
    },
    "dicom_enhanced_shuffled": "GDCM keeps the order of the frames",
    "dicom_enhanced_copy": "GDCM stacks copies",
    "dicom_enhanced_two_files": "GDCM reads one file",
    "dicom_resample_uneven": "ours is resampled",
    "dicom_resample_tilt": "ours is resampled",
}
"""Inputs of which GDCM, through SimpleITK, makes something else, and why."""

_ALL = (
    *_encodings(),
    *_orientations(),
    *_companions(),
    *_headers(),
    *_frames(),
    *_mixed(),
    *_places(),
    *_resampled(),
    *_not_hu(),
    *_damaged(),
)

INPUTS = tuple(replace(one, alone=ALONE.get(one.name, "")) for one in _ALL)
