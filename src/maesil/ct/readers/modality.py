"""Modalities of DICOM, and how messages name them."""

from __future__ import annotations

MODALITIES = frozenset((
    "CT", "MR", "PT", "NM", "US", "CR", "DX", "RG", "MG", "XA", "RF", "IO", "PX", "OT", "SC", "ES", "GM", "SM", "XC",
    "OP", "OPT", "OCT", "IVUS", "IVOCT", "BMD", "EPS", "HD", "ECG", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTIMAGE",
    "RTRECORD", "SR", "PR", "KO", "REG", "DOC", "AU", "FID", "PLAN",
))  # fmt: skip
"""Modalities that messages may quote: the text of any other may be anything."""


def modality_text(modality: str) -> str:
    """A modality as messages quote it: known ones by their code."""
    return f"modality {modality}" if modality in MODALITIES else "an unknown modality"
