from __future__ import annotations

import pydicom
import pytest

from maesil.datasets.identity import identities_of, orders_of_date


@pytest.mark.parametrize(
    ("tag", "value", "name"),
    [
        ("PatientName", "Li^Wu", "Wu_Li"),
        ("PatientName", "Li^Wu", "ct li"),
        ("PatientName", "Kim^Min-jun", "MINJUN kim"),
        ("ReferringPhysicianName", "Foster^Ann", "foster"),
        ("PatientID", "P-001", "set_p001"),
        ("PatientID", "7x", "set 7x"),
        ("PatientBirthDate", "19530217", "17.02.1953"),
        ("PatientBirthDate", "19530217", "02-17-53"),
        ("AcquisitionDate", "20170913", "20170913"),
        ("StudyInstanceUID", "1.2.826.45123.9", "set 45123"),
        ("InstitutionName", "Saint Elsewhere", "saint_elsewhere_ct"),
        ("StudyDescription", "CT Chest", "ct_chest"),
        ("OtherPatientNames", ["A^B", "Park^Jun"], "park"),
    ],
)
def test_told_by__a_name_that_repeats_a_header(tag: str, value: str | list[str], name: str) -> None:
    header = pydicom.Dataset()
    setattr(header, tag, value)
    assert identities_of(header).told_by(name)


def test_told_by__other_names() -> None:
    header = pydicom.Dataset()
    header.PatientName, header.PatientID, header.StudyDescription = "Li^Wu", "LIDC-P001", "CT Chest"
    header.PatientBirthDate = ""
    assert not [name for name in ("LIDC", "liver", "chest", "set 1953") if identities_of(header).told_by(name)]


def test_orders_of_date__of_no_date_are_none() -> None:
    assert orders_of_date("spring") == ()
