"""The tables in `results/comparison`, made again from the scores beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maesil.comparison.result import TOLD, VISIBLE, Comparison, Cost, ModelResult
from maesil.comparison.spec import parse_models
from maesil.comparison.tables import cost_table, paired_csv, table2, table3
from maesil.evaluation.scores import Score, read_scores
from maesil.evaluation.sheet import sheet_to_markdown

FOLDER = Path(__file__).parents[2] / "results" / "comparison"
MODELS = ("maesil", "unet", "ae:corrupt=true", "kriging", "interpolation", "mean", "slice_ceiling")


@pytest.fixture(scope="module")
def committed() -> Comparison:
    results: list[ModelResult] = []
    scores: list[Score] = []
    for spec in parse_models(MODELS):
        folder = FOLDER / "models" / spec.folder
        sees = TOLD if spec.model == "slice_ceiling" else VISIBLE
        cost = Cost(**json.loads((folder / "entrant.json").read_text())["cost"]) if spec.trained else None
        seeds = (0,) if spec.trained else ()
        results.append(
            ModelResult(
                spec.label, spec.model, {spec.label: sees}, title=spec.title, plain=not spec.settings, cost=cost,
                seeds=seeds,
            )
        )  # fmt: skip
        scores += read_scores(folder / "scores.jsonl")
    return Comparison("", "maesil", "4000 optimiser steps per model", tuple(results), tuple(scores), (), (), {})


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("|", "#"))]


@pytest.mark.parametrize("name", ["table2", "table3", "cost"])
def test_tables__read_as_they_were_committed(committed: Comparison, name: str) -> None:
    sheets = {"table2": table2, "table3": table3, "cost": lambda found: [cost_table(found)]}[name](committed)
    made = "\n".join(map(sheet_to_markdown, sheets))
    assert table_lines(made) == table_lines((FOLDER / f"{name}.md").read_text(encoding="utf-8"))


def test_paired_csv__is_as_it_was_committed(committed: Comparison) -> None:
    """To the last bit: the resamples and the order of every sum are the same."""
    assert paired_csv(committed) == (FOLDER / "paired.csv").read_text(encoding="utf-8")
