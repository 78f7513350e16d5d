"""Tables II and III of a comparison."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest

from comparison_results import comparison, full, score
from maesil.comparison.paper import TABLE_2
from maesil.comparison.result import Entrant
from maesil.comparison.tables import cost_csv, cost_table, paired_csv, summary_csv, table2, table3
from maesil.evaluation.sheet import Sheet, sheet_to_latex, sheet_to_markdown


def column(sheet: Sheet, name: str) -> dict[str, str]:
    place = list(sheet.header).index(name)
    return {row[0]: row[place] for row in sheet.rows}


def test_table2__rows_by_what_they_see_and_the_best_of_each() -> None:
    masked, whole = table2(full())
    assert [row[0] for row in masked.rows] == ["maesil", "ae, masked input", "interpolation", "vae (failed)", "ae"]
    assert [row[1] for row in masked.rows] == ["visible voxels"] * 4 + ["everything"]
    assert (0, 2) in masked.best  # ours among those that see the visible voxels
    assert (4, 2) in masked.best
    assert (1, 4) in masked.best  # the lowest LPIPS
    assert "masked" in masked.title
    assert "whole" in whole.title
    assert "8 scans of 8 patients" in masked.title


def test_table2__other_masks_are_neither_ranked_nor_tested() -> None:
    whole = full()
    slices = Entrant("slice_mae", "slice_mae", ("slice_mae",), other_masks=("slice_mae",))
    scores = [score("slice_mae", scan, 50.0) for scan in "abcdefgh"]
    sheet = table2(replace(whole, entrants=(*whole.entrants, slices), scores=(*whole.scores, *scores)))[0]
    row = [cells[0] for cells in sheet.rows].index("slice_mae")
    assert sheet.rows[row][1] == "others: own masks"
    assert column(sheet, "Δ PSNR")["slice_mae"] == "–"
    assert (row, 2) not in sheet.best
    assert (0, 2) in sheet.best


def test_table2__quotes_the_paper_beside_its_own_setting_only() -> None:
    paper = column(table2(full())[0], "paper: PSNR (dB)")
    assert paper == {
        "maesil": f"{TABLE_2['maesil']['psnr']:.2f}",
        "ae": f"{TABLE_2['ae']['psnr']:.2f}",
        "ae, masked input": "–",
        "interpolation": "–",
        "vae (failed)": "–",
    }


def test_table2__a_failure_keeps_its_row_and_reason() -> None:
    sheet = table2(full())[0]
    assert "vae: failed: its training was killed by SIGKILL" in sheet.notes
    assert column(sheet, "PSNR (dB) ↑")["vae (failed)"] == "–"


def test_table2__without_any_score_is_empty() -> None:
    assert table2(comparison(failed="x")) == []
    assert cost_table(comparison(failed="x")).rows[-1][0] == "vae (failed)"


def test_table3__a_column_per_dataset_and_both_means() -> None:
    masked = table3(full())[0]
    assert list(masked.header[2:]) == ["thorax (n=4)", "abdomen (n=4)", "all scans (n=8)", "mean of datasets (n=2)"]


def test_table3__quotes_the_paper_where_a_dataset_is_its_own() -> None:
    scores = [replace(score("maesil", scan, 20.0), dataset=name) for scan, name in (("a", "BTCV"), ("b", "mine"))]
    last = table3(comparison(*scores))[0].rows[-1]
    assert last[0] == "MAESIL, as the paper prints it"
    assert last[2:4] == ("32.09", "–")


def test_sheets__markdown_and_latex_say_the_same() -> None:
    sheet = table2(full())[0]
    markdown, latex = sheet_to_markdown(sheet), sheet_to_latex(sheet)
    assert markdown.count("\n| ") == len(sheet.rows) + 2  # header and rule
    assert latex.count(r"\\") == len(sheet.rows) + 1
    assert latex.count(r"\textbf{") == len(sheet.best)
    assert latex.count(r"Wilcoxon") == 1
    assert "Δ" not in latex.split(r"\begin{tabular}")[1]


def test_csv__is_tidy_and_unrounded() -> None:
    for text, least in ((summary_csv(full()), 24), (paired_csv(full()), 18), (cost_csv(full()), 4)):
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) >= least
        assert all(None not in row for row in rows)


def test_cost_table__of_what_was_trained() -> None:
    sheet = cost_table(full())
    assert column(sheet, "compression")["ae"] == f"{262144 / 24576:.1f}"
    assert column(sheet, "superpatches/s")["maesil"] == "20.0"
    assert "interpolation" not in column(sheet, "compression")


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_tables__strange_scores_are_shown(value: float) -> None:
    strange = comparison(score("maesil", "a", value), score("ae", "a", 20.0))
    assert column(table2(strange)[0], "PSNR (dB) ↑")["maesil"] in {"∞ (1 exact)", "–"}
