"""The verdict of a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from comparison_results import COST, comparison, full, score
from maesil.comparison.outputs import write_all
from maesil.comparison.result import EVERYTHING, TOLD, VISIBLE, Comparison, ModelResult
from maesil.comparison.standing import standing
from maesil.evaluation.scores import Score

OURS = [20.0, 19.0, 21.0, 20.5]


def compared(rivals: dict[str, list[float]], patient: str = "", sees: str = VISIBLE) -> Comparison:
    """Ours beside rivals, a model of their name each, over four scans."""
    values = {"maesil": OURS, **rivals}
    scores: list[Score] = [
        score(model, scan, value, patient=patient)
        for model, row in values.items()
        for scan, value in zip("abcd", row, strict=True)
    ]
    results = [ModelResult(name, name, {name: sees if name != "maesil" else VISIBLE}, cost=COST) for name in values]
    return replace(comparison(*scores), results=tuple(results))


def test_standing__names_the_best_rival_of_each_kind() -> None:
    found = standing(
        compared({
            "mean": [9.0, 9.0, 9.0, 9.0],
            "kriging": [18.0, 18.0, 21.5, 18.5],
            "ae": [1.0, 1.0, 1.0, 1.0],
            "unet": [20.1, 20.0, 20.0, 20.0],
        })
    )  # fmt: skip
    kriging, unet = found.split("; and ")
    assert kriging.startswith("On masked voxels, maesil is ahead of kriging, the best row without training, by 1.12 dB")
    assert kriging.endswith("dB; with the higher PSNR on 3 of 4 scans)")
    assert unet.startswith("is level with unet, the best other trained row, as far as 4 patients show (+0.10")
    assert unet.endswith("with the higher PSNR on 2 of 4 scans).")


def test_delivered__is_the_row_of_what_a_user_gets() -> None:
    fused = ModelResult("maesil", "maesil", {"maesil": VISIBLE, "maesil + fusion": VISIBLE}, cost=COST)
    assert fused.delivered == "maesil + fusion"
    assert ModelResult("maesil", "maesil", {"maesil": VISIBLE}).delivered == "maesil"
    assert ModelResult("ae", "ae", {"ae": EVERYTHING, "ae, masked input": VISIBLE}).delivered == "ae"
    assert ModelResult("unet", "unet", {}, failed="out of memory").delivered == "unet"


def test_standing__says_where_nothing_was_learnt() -> None:
    found = standing(compared({"kriging": [value + 0.5 for value in OURS]}))
    assert "is behind kriging, the best row without training, by 0.50 dB (95 % interval -0.50 to -0.50 dB" in found
    assert found.endswith("So far, kriging, which learns nothing, is better.")


def test_standing__of_one_patient_says_little() -> None:
    found = standing(compared({"kriging": [18.0, 18.0, 18.0, 18.0]}, patient="one"))
    assert found.endswith("by 2.12 dB (with the higher PSNR on 4 of 4 scans), on one patient, which says little.")


@pytest.mark.parametrize(
    "given",
    [compared({}), compared({"kriging": OURS}, sees=TOLD), comparison(score("interpolation", "a", 20.0))],
    ids=["no rival", "a rival with hints", "ours failed"],
)
def test_standing__is_left_out_where_there_is_nothing_to_compare(given: Comparison) -> None:
    assert standing(given) == ""


def test_standing__rivals_see_what_the_first_row_sees() -> None:
    found = compared({"unet": [18.0] * 4, "vae": [19.0] * 4, "kriging": [17.0] * 4})
    sees = {"maesil": EVERYTHING, "vae": EVERYTHING}
    results = [replace(one, entries={one.label: sees.get(one.label, VISIBLE)}) for one in found.results]
    said = standing(replace(found, results=tuple(results)))
    assert "vae, the best other trained row" in said
    assert "kriging" not in said
    assert "unet" not in said


def test_standing__ends_the_table_and_is_on_the_page(tmp_path: Path) -> None:
    page = write_all(full(), {}, tmp_path)
    said = standing(full())
    assert "maesil is ahead of interpolation, the best row without training, by 1.98 dB" in said
    assert (tmp_path / "table2.md").read_text(encoding="utf-8").rstrip().splitlines()[-1] == said
    assert said in page.read_text(encoding="utf-8")
