from __future__ import annotations

import math

import pytest

from maesil.evaluation.scores import Score
from maesil.evaluation.verdict import verdict_note


def scores(values: dict[str, list[float]], metric: str = "psnr", region: str = "masked") -> list[Score]:
    return [
        Score(f"scan-{number}", "set", f"p{number}", model, metric, region, value, "protocol")
        for model, row in values.items()
        for number, value in enumerate(row)
    ]


RIVALS = {"mean": [10.0, 10.0, 10.0], "interpolation": [17.0, 19.0, 18.0], "kriging": [18.0, 19.0, 20.0]}


def test_verdict_note__names_the_best_row_without_training_and_counts_scans() -> None:
    (note,) = verdict_note(scores({"maesil": [20.0, 18.5, 21.0], **RIVALS}), "maesil")
    assert "maesil is ahead of kriging, the best row without training, by 0.83 dB" not in note
    assert (
        "level with kriging, the best row without training, as far as 3 patients show (+0.83 dB, 95 % interval" in note
    )
    assert note.endswith("with the higher PSNR on 2 of 3 scans).")
    (note,) = verdict_note(scores({"maesil": [20.0, 20.5, 21.0], **RIVALS}), "maesil")
    assert "maesil is ahead of kriging, the best row without training, by 1.50 dB (95 % interval +1.00 to +2.00" in note


def test_verdict_note__says_where_a_model_has_not_learnt_enough() -> None:
    (note,) = verdict_note(scores({"maesil": [17.0, 18.5, 18.0], **RIVALS}), "maesil")
    assert (
        "behind kriging, the best row without training, by 1.17 dB (95 % interval -2.00 to -0.50 dB; with the" in note
    )
    assert note.endswith("So far, kriging, which learns nothing, is better.")


def test_verdict_note__says_what_ssim_says() -> None:
    given = scores({"maesil": [20.0], "kriging": [19.0]}) + scores({"maesil": [0.65], "kriging": [0.66]}, metric="ssim")
    assert "Its SSIM is 0.6500, that of kriging 0.6600." in verdict_note(given, "maesil")[0]


@pytest.mark.parametrize(
    "given",
    [
        scores({"maesil": [20.0]}),
        scores(RIVALS),
        scores({"maesil": [0.5], "kriging": [0.4]}, metric="ssim"),
        scores({"maesil": [20.0], "kriging": [19.0]}, region="whole"),
        scores({"maesil": [math.inf], "kriging": [19.0]}),
    ],
    ids=["no rival", "no model", "another metric", "another region", "not finite"],
)
def test_verdict_note__is_left_out_where_there_is_nothing_to_compare(given: list[Score]) -> None:
    assert verdict_note(given, "maesil") == ()
