from __future__ import annotations

import csv
import io
import math

import pytest

from maesil.errors import UnknownNameError
from maesil.evaluation.measures import METRICS
from maesil.evaluation.scores import Score
from maesil.evaluation.sheet import Sheet, cell, frame_to_csv, sheet_to_latex, sheet_to_markdown
from maesil.evaluation.tables import Table, tabulate


def score(scan: str, model: str, metric: str, value: float, region: str = "whole", dataset: str = "btcv") -> Score:
    return Score(scan, dataset, scan, model, metric, region, value, "abc", "The protocol. [protocol abc]")


@pytest.fixture
def table() -> Table:
    scores = [
        score(scan, model, metric, value + shift, region)
        for scan, shift in (("a", 0.0), ("b", 0.1))
        for region in ("whole", "masked")
        for model, metric, value in (
            ("mae_x", "ssim", 0.5),
            ("mae_x", "psnr", 20.0),
            ("mean", "psnr", 15.0),
            ("mean", "ssim", 0.2),
        )
    ]
    return tabulate(scores, notes=["LPIPS is left out: no weights & no network"])


def test_tabulate__has_a_row_per_region_and_model_and_a_column_per_metric(table: Table) -> None:
    assert table.sheet.header == ("scans", "region", "model", "n", "PSNR (dB) ↑", "SSIM ↑")
    assert [row[:4] for row in table.sheet.rows] == [
        ("all scans", "whole", "mae_x", "2"),
        ("all scans", "whole", "mean", "2"),
        ("all scans", "masked", "mae_x", "2"),
        ("all scans", "masked", "mean", "2"),
    ]
    assert table.sheet.rows[0][4] == "20.05 ± 0.07 [20.00, 20.10]"


def test_tabulate__notes_begin_with_the_protocol(table: Table) -> None:
    assert table.sheet.notes[0] == "The protocol. [protocol abc]"
    assert table.sheet.notes[-1].startswith("LPIPS is left out")


def test_tabulate__of_a_single_scan_shows_the_number_alone() -> None:
    (row,) = tabulate([score("a", "mae", "psnr", 20.0)]).sheet.rows
    assert row[3:] == ("1", "20.00")


def test_tabulate__shows_exact_undefined_and_missing_values() -> None:
    rows = tabulate(
        [
            score("a", "identity", "psnr", math.inf),
            score("b", "identity", "psnr", 30.0),
            score("a", "identity", "ssim", math.nan),
            score("b", "identity", "ssim", 0.9),
            score("a", "other", "psnr", 10.0),
        ]
    ).sheet.rows
    assert rows[0][3:] == ("2", "∞ (1 exact)", "0.9000 (n=1)")
    assert rows[1][3:] == ("1", "10.00", "–")


def test_tabulate__of_several_datasets_adds_their_mean() -> None:
    table = tabulate([score("a", "mae", "psnr", 10.0), score("b", "mae", "psnr", 20.0, dataset="lidc")])
    assert [row[0] for row in table.sheet.rows] == ["all scans", "mean of datasets", "btcv", "lidc"]
    assert table.sheet.rows[1][3] == "2 datasets"


def test_sheet_to_markdown__is_a_table_with_its_notes(table: Table) -> None:
    lines = sheet_to_markdown(table.sheet).splitlines()
    assert lines[0] == "| scans | region | model | n | PSNR (dB) ↑ | SSIM ↑ |"
    assert {line.count("|") for line in lines[:6]} == {7}
    assert "The protocol. [protocol abc]" in lines


def test_sheet_to_latex__escapes_and_closes(table: Table) -> None:
    text = sheet_to_latex(table.sheet)
    assert r"mae\_x" in text
    assert r"20.05 $\pm$ 0.07" in text
    assert r"PSNR (dB) $\uparrow$" in text
    assert text.count(r"\\") == 5
    assert text.rstrip().endswith(r"\end{tabular}")
    body = text[text.index(r"\toprule") :]
    assert body.isascii()
    assert body.count("&") == 5 * 5


def test_frame_to_csv__holds_unrounded_numbers_and_no_words_for_nan() -> None:
    table = tabulate([score("a", "mae", "psnr", 1 / 3), score("a", "exact", "psnr", math.inf)])
    rows = list(csv.DictReader(io.StringIO(frame_to_csv(table.summaries))))
    assert float(rows[0]["mean"]) == 1 / 3
    assert rows[0]["deviation"] == ""
    assert rows[1]["mean"] == "inf"
    assert rows[1]["infinite"] == "1"


def test_tabulate__cells_of_three_scans_end_in_the_median() -> None:
    (row,) = tabulate(
        [score(scan, "mae", "psnr", value) for scan, value in (("a", 1.0), ("b", 2.0), ("c", 9.0))]
    ).sheet.rows
    assert row[4].endswith("; 2.00")
    assert row[4].startswith("4.00 ± 4.36 [")


@pytest.mark.parametrize("name", METRICS)
def test_tabulate__shows_every_metric_that_is_scored(name: str) -> None:
    table = tabulate([score("a", "mae", name, 0.5, "masked")])
    assert table.sheet.header[4:] == (METRICS[name].title,)
    assert table.sheet.rows[0][4].startswith("0.5")
    assert not METRICS[name].explained or METRICS[name].explained in table.sheet.notes


def test_tabulate__refuses_a_metric_that_no_table_would_show() -> None:
    with pytest.raises(UnknownNameError, match="unknown metric 'psrn'"):
        tabulate([score("a", "mae", "psrn", 0.5)])


def test_tabulate__of_no_scores_is_an_empty_table() -> None:
    table = tabulate([], notes=["nothing was scored"])
    assert (table.sheet.rows, table.sheet.notes) == ([], ("nothing was scored",))
    assert sheet_to_latex(table.sheet).count(r"\\") == 1


def test_tabulate__the_best_of_each_column_is_the_best_number() -> None:
    """The numbers are compared, not their text: 20.001 and 20.002 read the same."""
    values = {"a": (20.001, 0.30), "b": (20.002, 0.40), "c": (math.nan, math.inf)}
    rows = [
        score("s", model, name, value)
        for model, row in values.items()
        for name, value in zip(("psnr", "lpips"), row, strict=True)
    ]
    table = tabulate([*rows, score("s", "d", "psnr", 5.0, region="masked")])
    assert [row[4] for row in table.sheet.rows] == ["20.00", "20.00", "–", "5.00"]
    assert table.best == {(1, 4), (0, 5)}, "the masked region has one row, which is the best of nothing"


def test_cell__leaves_out_what_is_undefined() -> None:
    assert cell(1.0, 0.5, 0.25, 2.0, 1.5, digits=1) == "1.0 ± 0.5 [0.2, 2.0]; 1.5"
    assert cell(1.0, low=-0.25, high=2.0, median=1.5, digits=2, sign="+") == "+1.00 [-0.25, +2.00]; +1.50"
    assert (cell(1.0, digits=0), cell(math.nan, 1.0, digits=0)) == ("1", "–")


def test_latex__has_no_sign_that_latex_does_not_know() -> None:
    titles = [metric.title for metric in METRICS.values()]
    sheet = Sheet(("model", *titles), (("ours", *["1.0 ± 0.1"] * len(titles)),))
    assert sheet_to_latex(sheet).isascii()
