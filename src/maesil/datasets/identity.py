"""The values in DICOM headers that identify a patient or an examination, and names that repeat them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NAMES = ("PatientName", "OtherPatientNames", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName")
IDS = (
    "PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "InstitutionName", "StationName",
    "DeviceSerialNumber",
)  # fmt: skip
DATES = (
    "PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "InstanceCreationDate",
    "AcquisitionDateTime",
)  # fmt: skip
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
DESCRIPTIONS = ("StudyDescription", "SeriesDescription", "ProtocolName", "InstitutionalDepartmentName")
IDENTITY_TAGS = (*NAMES, *IDS, *DATES, *UIDS, *DESCRIPTIONS)

_SHORTEST_PART = 3
"""Fewest characters of a value that a name must not contain."""
_SHORTEST_WORD = 2
_SHORTEST_ARC = 4
"""Fewest digits of a part of a UID that identifies it."""


@dataclass(frozen=True)
class Identities:
    """What a name must not repeat, in lower case, letters and digits only.

    Attributes:
        parts: Texts that a name must not contain.
        words: Texts that no word of a name may be.
        wholes: Texts that a name as a whole must not be.
    """

    parts: frozenset[str]
    words: frozenset[str]
    wholes: frozenset[str]

    def told_by(self, name: str) -> bool:
        """Whether a name repeats one of them."""
        plain = plain_text(name)
        words = {plain_text(word) for word in re.findall(r"[^\W_]+", name) + re.findall(r"[^\W\d_]+|\d+", name)}
        return plain in self.wholes or bool(words & self.words) or any(part in plain for part in self.parts)


def identities_of(header: Any) -> Identities:
    """The identities in a header, a pydicom `Dataset`; may raise anything if the header is damaged."""
    names = [word for value in values_of(header, NAMES) for word in re.split(r"[\^\s,=]+", value)]
    ids = values_of(header, IDS)
    dates = [order for value in values_of(header, DATES) for order in orders_of_date(value)]
    uids = values_of(header, UIDS)
    arcs = [arc for uid in uids for arc in uid.split(".") if len(arc) >= _SHORTEST_ARC]
    whole_names = values_of(header, NAMES)
    return Identities(
        parts=_plain([*names, *whole_names, *ids, *dates, *uids], _SHORTEST_PART),
        words=_plain([*names, *ids, *arcs], _SHORTEST_WORD),
        wholes=_plain(values_of(header, DESCRIPTIONS), 1),
    )


def values_of(header: Any, tags: Iterable[str]) -> list[str]:
    """The texts of tags, those with several values apart; empty ones are left out."""
    found = (header.get(tag) for tag in tags)
    several = (value if isinstance(value, (list, tuple)) or _is_multi(value) else [value] for value in found)
    return [text for values in several for value in values if value is not None and (text := str(value).strip())]


def _is_multi(value: Any) -> bool:
    return type(value).__name__ == "MultiValue"


def orders_of_date(value: str) -> tuple[str, ...]:
    """A date of a header, YYYYMMDD, in the orders in which names of folders have it; empty for anything else."""
    found = re.match(r"(\d{4})\.?(\d{2})\.?(\d{2})", value)
    if found is None:
        return ()
    year, month, day = found.groups()
    return (
        f"{year}{month}{day}", f"{day}{month}{year}", f"{month}{day}{year}", f"{year[2:]}{month}{day}",
        f"{day}{month}{year[2:]}", f"{month}{day}{year[2:]}",
    )  # fmt: skip


def plain_text(text: str) -> str:
    """A text in lower case without marks and spaces."""
    return re.sub(r"[\W_]", "", text.lower())


def _plain(values: Iterable[str], shortest: int) -> frozenset[str]:
    return frozenset(text for value in values if len(text := plain_text(value)) >= shortest)
