"""Small trees of every layout, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from maesil.ct.geometry import Geometry
from maesil.ct.volume import Volume
from maesil.ct.write import write_nifti


def nifti(path: Path) -> Path:
    """A file whose bytes no file of another name has: copies of a scan are one patient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.zeros((4, 5, 6), dtype=np.int16)
    voxels[0, 0, 0] = crc32(str(path).encode()) % 30000
    write_nifti(path, Volume(voxels, Geometry.from_parts((4, 5, 6), (3.0, 1.0, 1.0))))
    return path


def slice_file(path: Path, series: str, index: int, modality: str = "CT") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pydicom.Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(index)])
    image.SeriesInstanceUID, image.Modality, image.PatientID = series, modality, path.parts[-4]
    image.Rows, image.Columns, image.PixelSpacing = 64, 64, [0.5, 0.5]
    image.SamplesPerPixel, image.BitsAllocated, image.PixelData = 1, 16, bytes(64 * 64 * 2)
    image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0.0, 0.0, 2.0 * index]
    image.save_as(path, enforce_file_format=True)
    return str(image.SOPInstanceUID)


def btcv(root: Path) -> int:
    for number in (1, 2, 21):
        nifti(root / f"RawData/Training/img/img{number:04d}.nii.gz")
        nifti(root / f"RawData/Training/label/label{number:04d}.nii.gz")
    return 3


SECOND_0132 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.254176853278710432756285662989"
"""The second series of LIDC-IDRI-0132, one of the eight patients who have two."""


def lidc(root: Path) -> int:
    for patient, series in (("LIDC-IDRI-0001", "1.2.1"), ("LIDC-IDRI-0132", "1.2.2"), ("LIDC-IDRI-0132", SECOND_0132)):
        for index in range(3):
            slice_file(root / patient / "study" / series / f"1-{index:03d}.dcm", series, index)
    slice_file(root / "LIDC-IDRI-0001" / "study" / "1.2.9" / "1-001.dcm", "1.2.9", 0, "DX")
    return 3


def totalsegmentator(root: Path) -> int:
    for case in ("s0000", "s0001"):
        nifti(root / case / "ct.nii.gz")
        nifti(root / case / "segmentations" / "liver.nii.gz")
    (root / "meta.csv").write_text("image_id;split\ns0000;train\ns0001;test\n")
    return 2


def nnunet(root: Path) -> int:
    for case in ("liver_1", "liver_2"):
        nifti(root / "imagesTr" / f"{case}_0000.nii.gz")
        nifti(root / "labelsTr" / f"{case}.nii.gz")
    nifti(root / "imagesTs" / "liver_3_0000.nii.gz")
    described = {"name": "Liver", "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
    (root / "dataset.json").write_text(json.dumps(described))
    return 3


def folder(root: Path) -> int:
    nifti(root / "a.nii.gz")
    nifti(root / "deep" / "b.nii.gz")
    return 2
