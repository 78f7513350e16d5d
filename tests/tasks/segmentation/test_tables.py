"""Tables of downstream scores: intervals over patients, and sentences of the split that was used."""

from __future__ import annotations

from typing import Any

import pytest

from maesil.evaluation.intervals import patient_interval
from maesil.tasks.segmentation.label_efficiency_page import efficiency_figure, efficiency_sheet
from maesil.tasks.segmentation.tables import mean_cell, segmentation_sheet
from maesil.tasks.segmentation.trials import Amount, Trial


def row(scan: str, patient: str, dice: float, **more: Any) -> dict[str, Any]:
    told = {"superpatches": None, "trained": False, **more}
    return {"scan": scan, "patient": patient, "class": "liver", "dice": dice, "hd95_mm": 1.0, "nsd": 1.0, **told}


# Patient a has three like scans, b has one: over scans the interval would be another.
SCANS = [row("a1", "a", 0.9), row("a2", "a", 0.9), row("a3", "a", 0.9), row("b1", "b", 0.5)]


def test_segmentation_sheet__intervals_are_over_patients() -> None:
    """By hand: of two patients a quarter of the resamples holds b alone, a quarter a alone."""
    (cells,) = segmentation_sheet(SCANS, "title").rows
    assert cells[2] == "0.800 ± 0.200 [0.500, 0.900]"
    assert patient_interval([0.9, 0.9, 0.9, 0.5], ["a", "a", "a", "b"]) == pytest.approx((0.5, 0.9))


def test_mean_cell__one_patient_has_no_interval() -> None:
    assert mean_cell([0.25, 0.75], ["a", "a"], 2) == "0.50 ± 0.35"
    assert mean_cell([0.25, float("inf")], ["a", "b"], 2) == "0.25, ∞ in 1"
    assert mean_cell([float("inf")] * 2, ["a", "b"], 2) == "∞ in 2", "missed everywhere is not the same as not scored"
    assert mean_cell([float("nan")] * 2, ["a", "b"], 2) == "–"
    assert mean_cell([], [], 2) == "–"


def test_efficiency_sheet__intervals_are_over_patients() -> None:
    """Seeds add no patients: three seeds of two patients have the interval of two patients."""
    seeds = [
        Trial(Amount(scans=2), start, seed, (row("a", "a", dice), row("b", "b", dice - 0.4)))
        for start, dice in (("pre-trained", 0.9), ("scratch", 0.8))
        for seed in range(3)
    ]
    sheet = efficiency_sheet(seeds)
    assert sheet.rows[0][2].endswith("[0.500, 0.900]")
    assert sheet.rows[0][4].endswith("[+0.100, +0.100]")
    assert sheet.title == "Label efficiency: Dice on test scans"
    efficiency_figure(seeds)


def test_efficiency_sheet__close_shares_are_rows_of_their_own() -> None:
    shares = {0.015: 0.1, 0.02: 0.5, 0.125: 0.6, 0.12: 0.7}
    trials = [
        Trial(Amount(share=share), start, 0, (row("a", "a", dice), row("b", "b", dice)))
        for share, dice in shares.items()
        for start in ("pre-trained", "scratch")
    ]
    found = {line[0]: line[2][:5] for line in efficiency_sheet(trials).rows}
    assert found == {
        "1.5% of superpatches": "0.100",
        "2% of superpatches": "0.500",
        "12.5% of superpatches": "0.600",
        "12% of superpatches": "0.700",
    }


def test_segmentation_sheet__says_superpatches_where_superpatches_were_held_out() -> None:
    rows = [{**one, "superpatches": 4, "trained": True} for one in SCANS]
    notes = " ".join(segmentation_sheet(rows, "title").notes)
    assert "by superpatch: 16 superpatches of 2 patients whose other superpatches were trained on" in notes
    assert "never saw" not in notes
    assert "cut at the superpatch's faces" in notes
    sheet = efficiency_sheet([Trial(Amount(scans=2), "scratch", 0, tuple(rows))])
    assert sheet.title == "Label efficiency: Dice on held-out superpatches"
    assert any("by superpatch" in note for note in sheet.notes)
    whole = " ".join(segmentation_sheet(SCANS, "title").notes)
    assert "by patient: 2 patients." in whole
    assert "superpatch" not in whole


def test_segmentation_sheet__scores_that_do_not_tell() -> None:
    old = {key: value for key, value in SCANS[0].items() if key not in ("superpatches", "trained")}
    notes = " ".join(segmentation_sheet([old], "title").notes)
    assert "earlier version" in notes
    assert "never saw" not in notes
    assert efficiency_sheet([Trial(Amount(), "scratch", 0, (old,))]).title.endswith("Dice on test scans")
