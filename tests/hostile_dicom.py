"""DICOM series whose headers say everything about a patient, in folders that repeat it, some with faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from dicom_slices import write_slice

SLICES, ROWS, COLUMNS = 34, 36, 36
PEOPLE = ("Li^Wu", "Kim^Min-jun", "Müller^Änne", "O'Neil^Pat^Q")
BIRTHS = ("19530217", "19620304", "19410911", "20011130")


def write_hostile(root: Path) -> None:
    """Four sound series of four patients below folders that name them, and series that are refused for many reasons."""
    for number, (person, birth) in enumerate(zip(PEOPLE, BIRTHS, strict=True)):
        folder = root / (person.replace("^", "_"), f"{birth[6:]}.{birth[4:6]}.{birth[:4]}", birth, "ONeil")[number]
        write_hostile_series(folder / f"1.2.826.0.1.{number}7701.5", number, person, birth)
    gap, other, text, nobody, odd = (root / f"p{number}" / "s1" for number in range(5))
    write_hostile_series(gap, 4, "Park^Ji-hoon", "19700101", skip=(3, 9))
    write_hostile_series(other, 5, "Garcia^Maria", "19700102", slices=3, Modality="MR")
    write_hostile_series(text, 6, "Okonkwo^Ada", "19700103", slices=3, Modality="OKONKWO ADA")
    write_hostile_series(nobody, 7, "Larsen^Bo", "19700104", slices=8, SeriesInstanceUID="")
    write_hostile_series(nobody, 8, "Larsen^Bo", "19700104", slices=8, prefix="more")
    write_hostile_series(odd, 9, "Dubois^Jean", "19700105", slices=8)
    damaged = odd / "im00.dcm"
    damaged.write_bytes(damaged.read_bytes().replace(b"2.0\\2.0", b"Dubois\\"[:7]))
    (root / "p5").mkdir()
    (root / "p5" / "im.dcm").write_bytes(damaged.read_bytes()[:200])


def write_hostile_series(
    folder: Path,
    number: int,
    person: str,
    birth: str,
    *,
    slices: int = SLICES,
    skip: tuple[int, ...] = (),
    prefix: str = "im",
    **tags: str,
) -> None:
    """One series; every value that identifies somebody or something occurs in no other place."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(number)
    hu = np.full((slices, ROWS, COLUMNS), -1000.0)
    hu[:, 6:-6, 6:-6] = 40 + 60 * np.sin(np.arange(slices) / (2 + number))[:, None, None]
    voxels = (hu + random.normal(0, 12, hu.shape)).astype(np.int16)
    for index in range(slices):
        if index not in skip:
            write_slice(
                folder / f"{prefix}{index:02d}.dcm",
                voxels[index],
                index,
                {**_told(number, person, birth, index), **tags},
            )
    _add_private(folder / f"{prefix}00.dcm", person)


def _told(number: int, person: str, birth: str, index: int) -> dict[str, Any]:
    request = pydicom.Dataset()
    request.RequestedProcedureDescription = f"Follow-up of {person.split('^')[0]} senior"
    request.ScheduledProcedureStepID = f"SPS{number}48151"
    uid = f"1.2.826.0.1.3680043.8.498.9{number}55101"
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": person,
        "PatientID": f"ID-77{number}23-X",
        "PatientBirthDate": birth,
        "PatientAge": f"0{50 + number}Y",
        "PatientWeight": f"7{number}.913",
        "PatientSize": f"1.7{number}31",
        "OtherPatientIDs": [f"OLD{number}9917", f"CARD{number}4711"],
        "PatientAddress": f"{number}7 Elm Grove, Elsewhere",
        "PatientComments": f"Neighbour of nurse {number}Quill",
        "ReferringPhysicianName": f"Foster^Ann{number}x",
        "OperatorsName": f"Hill{number}^Oz",
        "InstitutionName": f"Saint Elsewhere {number}",
        "StationName": f"CTROOM{number}88",
        "StudyDate": f"2019082{number}",
        "SeriesDate": f"2019072{number}",
        "AcquisitionDate": f"2019062{number}",
        "ContentDate": f"2019052{number}",
        "AcquisitionDateTime": f"2019062{number}101112.345678",
        "StudyTime": f"10111{number}.2751",
        "AccessionNumber": f"ACC88{number}9977",
        "StudyID": f"STU{number}3317",
        "StudyDescription": f"Thorax of {person.split('^')[0]}",
        "SeriesDescription": f"Lung window {number}Hx",
        "ProtocolName": f"Proto{number}kol Nine",
        "DeviceSerialNumber": f"SN{number}60661",
        "Manufacturer": f"Maker{number}Works",
        "SoftwareVersions": f"syngo.{number}via",
        "KVP": f"117.3{number}",
        "Exposure": f"9{number}417",
        "StudyInstanceUID": f"{uid}.11141",
        "SeriesInstanceUID": f"{uid}.22242",
        "FrameOfReferenceUID": f"{uid}.33343",
        "SOPInstanceUID": f"{uid}.44444.{index}",
        "SeriesNumber": f"90{number}17",
        "InstanceNumber": f"{70_000 + 100 * number + index}",
        "RequestAttributesSequence": [request],
    }


def _add_private(path: Path, person: str) -> None:
    image = pydicom.dcmread(path)
    block = image.private_block(0x0011, "Elsewhere Clinic", create=True)
    block.add_new(1, "LO", f"private words on {person}")
    image.save_as(path, enforce_file_format=True)


NEEDED = frozenset((
    "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "ImageType",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "SOPClassUID", "SpecificCharacterSet", "PixelData", "RequestAttributesSequence",
))  # fmt: skip
"""Elements that a store needs, or that say nothing about a patient: the values of all others are compared."""


def header_values(root: Path) -> Iterator[tuple[str, str]]:
    """Keyword and text of every value of every header below a folder, of sequences and private elements, too."""
    for path in sorted(root.rglob("*.dcm")):
        try:
            image = pydicom.dcmread(path, stop_before_pixels=True)
            elements = list(image.iterall())
        except Exception:
            continue
        for element in elements:
            if element.keyword in NEEDED or element.value in (None, "", "CT", "MR"):
                continue
            values = element.value if element.VM > 1 else [element.value]
            yield from ((element.keyword or "private", str(value)) for value in values)
