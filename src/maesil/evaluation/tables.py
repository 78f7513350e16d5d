"""The table of an evaluation's scores."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from maesil.evaluation.measures import METRICS
from maesil.evaluation.scores import Score
from maesil.evaluation.sheet import Sheet, cell
from maesil.evaluation.summary import ALL_SCANS, MEAN_OF_DATASETS, summarize

CELL = "mean ± standard deviation over scans [95 % bootstrap interval of the mean, patients resampled]; median"
"""Contents of a cell, as a note below the table."""
ROW = ["group", "region", "model"]
"""Columns of a summary that name a row of the table."""


@dataclass(frozen=True)
class Table:
    """A table of scores.

    Attributes:
        sheet: The table as text, with the protocol as its first note.
        summaries: The numbers behind the cells, as `summarize` returns them.
        best: Cells (row, column) with the best mean among the models on the same scans and region.
    """

    sheet: Sheet
    summaries: pd.DataFrame
    best: frozenset[tuple[int, int]]


def tabulate(scores: Sequence[Score], notes: Sequence[str] = ()) -> Table:
    """The table of scores of one protocol: a row per group of scans, region and model; a column per metric.

    Args:
        scores: Scores of any models, scans and datasets.
        notes: Further lines below the table, such as why LPIPS is left out.

    Raises:
        ConfigError: The scores are from several protocols or sizes of superpatches, or contain duplicates.
    """
    summaries = summarize(scores)
    metrics = shown_metrics(summaries)
    shown = summaries[summaries["metric"].isin(metrics)]
    groups, regions, models = (shown[name].unique() for name in ROW)
    counts = shown.groupby(ROW)["n"]
    most = counts.max()
    named = [key for key in product(groups, regions, models) if key in most.index]
    texts, goodness = two_way(shown, ROW, named, "metric", metrics, counts.transform("max"))
    rows = [
        (*key, f"{most[key]} datasets" if key[0] == MEAN_OF_DATASETS else f"{most[key]}", *cells)
        for key, cells in zip(named, texts.to_numpy(), strict=True)
    ]
    header = ("scans", "region", "model", "n", *(METRICS[metric].title for metric in metrics))
    descriptions = dict.fromkeys(score.described for score in scores if score.described)
    sheet = Sheet(header, rows, (*descriptions, *_legend(rows), *metric_notes(summaries), *notes), texts=4)
    return Table(sheet, summaries, best_cells(goodness, [key[:2] for key in named], 4))


def two_way(
    summaries: pd.DataFrame,
    index: Any,
    rows: Sequence[Any],
    column: str,
    names: Sequence[str],
    counts: Iterable[int] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Summaries as two tables with the same rows and columns: their cells' texts, and numbers to compare them by.

    Args:
        summaries: A frame as `summarize` returns it, with one row per cell.
        index: Column, or columns, of the summaries that name the rows of the tables.
        rows: Names of the rows, in order.
        column: Column of the summaries that names the columns of the tables.
        names: Names of the columns, in order.
        counts: The number of values expected in each cell, in the order of the summaries; cells with fewer say so.

    Returns:
        The texts, "–" without a summary; and the goodness, larger for better means and nan without one.
    """
    cells = list(summaries.itertuples())
    shown = summaries.assign(
        text=list(map(cell_text, cells, summaries["n"] if counts is None else counts)),
        goodness=[METRICS[row.metric].goodness(row.mean) for row in cells],
    )
    texts, goodness = (
        shown.pivot(index=index, columns=column, values=value).reindex(index=rows, columns=names)
        for value in ("text", "goodness")
    )
    return texts.astype(object).fillna("–"), goodness


def best_cells(goodness: pd.DataFrame, rivals: Sequence[Hashable], first: int) -> frozenset[tuple[int, int]]:
    """Cells (row, column) that are the best of their column among rival rows; of equal ones, the last.

    A row without rivals in a column is the best of nothing there.

    Args:
        goodness: Larger for better cells; nan: not compared.
        rivals: Group of each row, which only rows of the same group are compared with; None: not compared.
        first: Number of the first column in the sheet.
    """
    groups = pd.Series(rivals, dtype=object)
    best = set()
    for column, name in enumerate(goodness, start=first):
        values = goodness[name].reset_index(drop=True).dropna()[::-1]
        grouped = values.groupby(groups)
        best |= {(row, column) for row in grouped.idxmax()[grouped.size() > 1]}
    return frozenset(best)


def shown_metrics(summaries: pd.DataFrame) -> list[str]:
    """The metrics that have any values, in the catalogue's order.

    Raises:
        UnknownNameError: A metric is not in the catalogue: no score is left out silently.
    """
    scored = set(summaries.loc[summaries["n"] > 0, "metric"])
    for name in scored:
        METRICS[name]
    return [name for name in METRICS if name in scored]


def metric_notes(summaries: pd.DataFrame) -> list[str]:
    """Notes on metrics that the protocol's line does not explain, and on the spread over mask draws and seeds."""
    notes = list(dict.fromkeys(METRICS[name].explained for name in shown_metrics(summaries) if METRICS[name].explained))
    psnr = summaries.query("metric == 'psnr' and region == 'masked'")
    rows = list(psnr[psnr["group"] == ALL_SCANS].itertuples())
    spreads = [f"{row.model} {row.draw_spread:.2f}" for row in rows if not math.isnan(row.draw_spread)]
    seeds = [f"{row.model} {row.seed_deviation:.2f} ({row.seeds})" for row in rows if row.seeds > 1]
    if spreads:
        notes.append(f"Standard deviation of a scan's masked PSNR over mask draws, in dB: {', '.join(spreads)}.")
    if seeds:
        notes.append(f"Standard deviation of the mean masked PSNR over training seeds, in dB: {', '.join(seeds)}.")
    return notes


def cell_text(row: Any, count: int) -> str:
    """Mean, deviation, interval and median of a row of `summarize`; the number of values if fewer than `count`."""
    if row.n == 0:
        return "–"
    fewer = f" (n={row.n})" if row.n < count else ""
    if math.isinf(row.mean):
        return f"∞ ({row.infinite} exact){fewer}"
    median = row.median if row.n > 2 else math.nan
    return cell(row.mean, row.deviation, row.low, row.high, median, digits=METRICS[row.metric].decimals) + fewer


def _legend(rows: Sequence[tuple[str, ...]]) -> list[str]:
    text = "".join(map("".join, rows))
    return [f"Cells: {CELL}."] if "[" in text or "±" in text else []
