"""Summaries as tables in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from maesil.evaluation.measures import METRICS
from maesil.evaluation.scores import Score
from maesil.evaluation.sheet import Sheet, sheet_to_latex, sheet_to_markdown
from maesil.evaluation.summary import ALL_SCANS, MEAN_OF_DATASETS, Summary, summarize

CELL = "mean ± standard deviation over scans [95 % bootstrap interval of the mean, patients resampled]; median"
"""Contents of a cell, as a note below the table."""


@dataclass(frozen=True)
class Table:
    """Rows of text ready to be laid out.

    Attributes:
        header: Column titles.
        rows: Cells by row.
        notes: Lines below the table, the protocol first.
        summaries: The numbers behind the cells.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    summaries: tuple[Summary, ...]


def tabulate(scores: Sequence[Score], notes: Sequence[str] = ()) -> Table:
    """The table of scores of one protocol: a row per group of scans, region and model; a column per metric.

    Args:
        scores: Scores of any models, scans and datasets.
        notes: Further lines below the table, such as why LPIPS is left out.

    Raises:
        ConfigError: The scores are from several protocols, or contain duplicates.
    """
    summaries = summarize(scores)
    metrics = shown_metrics(summaries)
    cells = {(row.group, row.region, row.model, row.metric): row for row in summaries}
    groups = dict.fromkeys(row.group for row in summaries)
    regions = dict.fromkeys(row.region for row in summaries)
    models = dict.fromkeys(row.model for row in summaries)
    rows = []
    for group, region, model in ((g, r, m) for g in groups for r in regions for m in models):
        found = [cells.get((group, region, model, metric)) for metric in metrics]
        if any(found):
            count = max(row.n for row in found if row is not None)
            unit = " datasets" if group == MEAN_OF_DATASETS else ""
            rows.append((group, region, model, f"{count}{unit}", *(cell_text(row, count) for row in found)))
    header = ("scans", "region", "model", "n", *(METRICS[metric].title for metric in metrics))
    descriptions = dict.fromkeys(score.described for score in scores if score.described)
    return Table(
        header, tuple(rows), (*descriptions, *_legend(rows), *metric_notes(summaries), *notes), tuple(summaries)
    )


def shown_metrics(summaries: Sequence[Summary]) -> list[str]:
    """The metrics that have any values, in the catalogue's order.

    Raises:
        UnknownNameError: A metric is not in the catalogue: no score is left out silently.
    """
    scored = {row.metric for row in summaries if row.n}
    for name in scored:
        METRICS[name]
    return [name for name in METRICS if name in scored]


def metric_notes(summaries: Sequence[Summary]) -> list[str]:
    """Notes on metrics that the protocol's line does not explain, and on the spread over mask draws and seeds."""
    metrics = shown_metrics(summaries)
    explained = dict.fromkeys(METRICS[name].explained for name in metrics if METRICS[name].explained)
    every = [row for row in summaries if row.group == ALL_SCANS and row.metric == "psnr" and row.region == "masked"]
    spreads = [f"{row.model} {row.draw_spread:.2f}" for row in every if not math.isnan(row.draw_spread)]
    seeds = [f"{row.model} {row.seed_deviation:.2f} ({row.seeds})" for row in every if row.seeds > 1]
    notes = list(explained)
    if spreads:
        notes.append(f"Standard deviation of a scan's masked PSNR over mask draws, in dB: {', '.join(spreads)}.")
    if seeds:
        notes.append(f"Standard deviation of the mean masked PSNR over training seeds, in dB: {', '.join(seeds)}.")
    return notes


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table, with its notes below."""
    return sheet_to_markdown(_sheet(table))


def to_latex(table: Table) -> str:
    r"""A LaTeX tabular (needs `booktabs`), with notes as comments above it."""
    return sheet_to_latex(_sheet(table))


def _sheet(table: Table) -> Sheet:
    return Sheet(table.header, table.rows, table.notes, texts=4)


def to_csv(table: Table) -> str:
    """One line per summary, with unrounded numbers; nan as an empty field, infinity as "inf"."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([field.name for field in fields(Summary)])
    for row in table.summaries:
        values = astuple(row)
        writer.writerow(["" if isinstance(value, float) and math.isnan(value) else value for value in values])
    return stream.getvalue()


def cell_text(row: Summary | None, count: int) -> str:
    """Mean, deviation, interval and median of a summary; the number of values if fewer than `count` are defined."""
    if row is None or row.n == 0:
        return "–"
    fewer = f" (n={row.n})" if row.n < count else ""
    if math.isinf(row.mean):
        return f"∞ ({row.infinite} exact){fewer}"
    digits = METRICS[row.metric].decimals
    text = f"{row.mean:.{digits}f}"
    if not math.isnan(row.deviation):
        text += f" ± {row.deviation:.{digits}f}"
    if not math.isnan(row.low):
        text += f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    if row.n > 2:
        text += f"; {row.median:.{digits}f}"
    return text + fewer


def _legend(rows: Sequence[tuple[str, ...]]) -> list[str]:
    text = "".join(cell for row in rows for cell in row)
    return [f"Cells: {CELL}."] if "[" in text or "±" in text else []
