"""Tables II and III of a comparison."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest

from comparison_results import COST, comparison, full, score
from maesil.comparison.paper import TABLE_2
from maesil.comparison.result import EVERYTHING, OWN_MASKS, TOLD, VISIBLE, Comparison, ModelResult
from maesil.comparison.spec import parse_models
from maesil.comparison.tables import cost_csv, cost_tables, paired_csv, table2, table2_csv, table3, table3_csv
from maesil.evaluation.sheet import Sheet, sheet_to_latex, sheet_to_markdown


def column(sheet: Sheet, name: str) -> dict[str, str]:
    place = list(sheet.header).index(name)
    return {row[0]: row[place] for row in sheet.rows}


def test_table2__rows_by_what_they_see_and_the_best_of_each() -> None:
    masked, whole = table2(full())
    assert [row[0] for row in masked.rows] == ["maesil", "ae, masked input", "interpolation", "vae (failed)", "ae"]
    assert [row[1] for row in masked.rows] == ["visible voxels"] * 4 + ["everything"]
    assert (0, 2) in masked.best  # ours among those that see the visible voxels
    assert not [place for place in masked.best if place[0] == 4], "a single row is the best of nothing"
    assert (1, 4) in masked.best  # the lowest LPIPS
    assert "masked" in masked.title
    assert "whole" in whole.title
    assert "8 scans of 8 patients" in masked.title


def beside(one: ModelResult, *others: ModelResult) -> Comparison:
    """The made-up comparison with results that score 50 dB in every scan."""
    whole, more = full(), (one, *others)
    scores = [score(entry, scan, 50.0) for result in more for entry in result.entries for scan in "abcdefgh"]
    return replace(whole, results=(*whole.results, *more), scores=(*whole.scores, *scores))


@pytest.mark.parametrize("sees", [OWN_MASKS, TOLD])
def test_table2__other_masks_and_hints_are_neither_ranked_nor_tested(sees: str) -> None:
    other = ModelResult("other", "maesil", {"other": sees}, plain=False, notes=("other: told the truth.",))
    found = beside(other)
    for sheet, what in ((table2(found)[0], 2), (table3(found)[0], 2)):
        row = [cells[0] for cells in sheet.rows].index("other")
        assert sheet.rows[row][1] == sees
        assert (row, what) not in sheet.best
        assert (0, what) in sheet.best
        assert "other: told the truth." in sheet.notes
    assert column(table2(found)[0], "Δ PSNR")["other"] == "–"
    assert "other" not in paired_csv(found)


def test_table2__where_ours_has_hints_nothing_is_tested_against_it() -> None:
    whole = full()
    hinted = replace(whole.results[0], entries={"maesil": TOLD})
    found = replace(whole, results=(hinted, *whole.results[1:]))
    assert set(column(table2(found)[0], "Δ PSNR").values()) == {"–"}
    assert paired_csv(found).count("\n") == 1


def test_table2__quotes_the_paper_beside_no_variant() -> None:
    variants = [
        ModelResult("maesil:patch=16", "maesil", {"maesil:patch=16": VISIBLE}, plain=False),
        ModelResult("ae:latent_channels=6", "ae", {"ae:latent_channels=6": EVERYTHING}, plain=False),
    ]
    paper = column(table2(beside(*variants))[0], "paper: PSNR (dB)")
    assert [paper[result.label] for result in variants] == ["–", "–"]
    ours = replace(beside(*variants), ours="maesil:patch=16")
    assert column(table2(ours)[0], "paper: PSNR (dB)")["maesil:patch=16"] == "30.28"


def test_tables__quote_no_maesil_where_it_is_not_compared() -> None:
    scores = [replace(score("mean", scan, 12.0), dataset="LIDC-IDRI") for scan in "ab"]
    mean = ModelResult("mean", "mean", {"mean": VISIBLE})
    found = replace(comparison(*scores), results=(mean,), ours="mean")
    assert [row[0] for row in table3(found)[0].rows] == ["mean"]
    assert not any("Paper:" in note for sheet in (*table2(found), *table3(found)) for note in sheet.notes)


def test_tables__show_short_titles() -> None:
    (spec,) = parse_models(["ae:latent_channels=6"])
    rows = {spec.label: EVERYTHING, f"{spec.label}, masked input": VISIBLE}
    found = beside(ModelResult(spec.label, "ae", rows, title=spec.title, plain=False, cost=COST))
    assert {"ae, latent channels 6", "ae, latent channels 6, masked input"} <= column(table2(found)[0], "sees").keys()
    assert "ae, latent channels 6" in column(cost_tables(found)[0], "steps")
    assert spec.label in table2_csv(found)  # files for programs keep the whole name


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
    assert cost_tables(comparison(failed="x"))[0].rows[-1][0] == "vae (failed)"


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
    texts = ((table2_csv(full()), 24), (table3_csv(full()), 96), (paired_csv(full()), 18), (cost_csv(full()), 4))
    for text, least in texts:
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len(rows) >= least
        assert all(None not in row for row in rows)


def test_csv__keeps_failed_rows_and_the_papers_figures() -> None:
    named = replace(full(), scores=tuple(replace(row, dataset="BTCV") for row in full().scores))
    for text, group in ((table2_csv(full()), "all scans"), (table3_csv(named), "all scans")):
        rows = list(csv.DictReader(io.StringIO(text)))
        (failed,) = [row for row in rows if row["model"] == "vae"]
        assert failed["failed"] == "its training was killed by SIGKILL"
        assert failed["mean"] == ""
        paper = {(row["model"], row["metric"]): row["paper"] for row in rows if row["group"] == group}
        assert paper["maesil", "psnr"] == "30.28"
        assert paper["ae", "ssim"] == "0.97"
        assert paper["ae, masked input", "psnr"] == ""
    several = [replace(score("maesil", scan, 20.0), dataset=name) for scan, name in (("a", "BTCV"), ("b", "mine"))]
    groups = {row["group"]: row["paper"] for row in csv.DictReader(io.StringIO(table3_csv(comparison(*several))))}
    assert (groups["BTCV"], groups["mine"], groups["mean of datasets"]) == ("32.09", "", "")


def test_cost_table__of_what_was_trained() -> None:
    sheet = cost_tables(full())[0]
    assert column(sheet, "compression")["ae"] == f"{262144 / 24576:.1f}"
    assert column(sheet, "latent bits")["ae"] == f"{24576 * 32:,}"
    assert column(sheet, "bits per voxel")["ae"] == "3"
    assert column(sheet, "superpatches/s")["maesil"] == "20.0"
    assert "interpolation" not in column(sheet, "compression")


@pytest.mark.parametrize(("value", "shown"), [(math.inf, "∞ (1 exact)"), (math.nan, "–")])
def test_tables__strange_scores_are_shown(value: float, shown: str) -> None:
    strange = comparison(score("maesil", "a", value), score("ae", "a", 20.0))
    assert column(table2(strange)[0], "PSNR (dB) ↑")["maesil"] == shown


def test_table2__leaves_out_rows_that_a_region_says_nothing_about() -> None:
    scores = [score(model, "a", 20.0, region="masked") for model in ("maesil", "interpolation")]
    masked, predicted = table2(comparison(*scores, score("maesil", "a", 18.0, region="predicted")))
    assert {"maesil", "interpolation"} <= set(column(masked, "PSNR (dB) ↑"))
    assert set(column(predicted, "PSNR (dB) ↑")) == {"maesil"}


def test_table2__the_best_seam_is_the_one_nearest_to_one() -> None:
    rows = [score(model, "a", value, "seams_s") for model, value in (("maesil", 1.2), ("interpolation", 0.5))]
    (sheet,) = table2(comparison(*rows, score("ae, masked input", "a", 3.0, "seams_s")))
    ((row, at),) = sheet.best
    assert (sheet.rows[row][0], sheet.header[at]) == ("maesil", "seams S → 1")


def test_table2__says_on_how_many_scans_a_row_is_ahead() -> None:
    ours = {"a": 20.0, "b": 21.0, "c": 22.0}
    scores = [score("maesil", scan, value) for scan, value in ours.items()]
    scores += [score("interpolation", scan, value) for scan, value in {"a": 21.0, "b": 20.0, "c": 24.0}.items()]
    assert column(table2(comparison(*scores))[0], "Δ PSNR")["interpolation"].endswith("; +1.00; 2 of 3")


def test_cost_table__says_how_many_times_our_flops_a_row_takes() -> None:
    found = full()
    dear = replace(found.results[1], cost=replace(COST, flops=4.36 * COST.flops))
    sheet = cost_tables(replace(found, results=(found.results[0], dear)))[0]
    assert column(sheet, "of ours") == {"maesil": "1.00", "ae": "4.36"}


def test_cost_table__of_a_model_without_a_bottleneck() -> None:
    found = full()
    unet = replace(found.results[1], cost=replace(COST, latent_elements=None))
    sheet = cost_tables(replace(found, results=(found.results[0], unet)))[0]
    assert [column(sheet, name)["ae"] for name in ("latent elements", "compression", "latent bits")] == ["–"] * 3
