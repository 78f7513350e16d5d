"""Summaries as tables in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from maesil.evaluation.scores import METRICS, Score
from maesil.evaluation.summary import MEAN_OF_DATASETS, Summary, summarize

HEADINGS = {"psnr": ("PSNR (dB)", "↑"), "ssim": ("SSIM", "↑"), "lpips": ("LPIPS", "↓")}
DECIMALS = {"psnr": 2, "ssim": 4, "lpips": 4}
LATEX_SYMBOLS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "∞": r"$\infty$", "–": "--"}
LATEX_SPECIAL = {"\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}"}
LATEX_SPECIAL |= {"^": r"\textasciicircum{}"}


@dataclass(frozen=True)
class Table:
    """Rows of text ready to be laid out.

    Attributes:
        header: Column titles.
        rows: Cells.
        notes: Lines below the table: the protocol first.
        summaries: The numbers behind the cells.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    summaries: tuple[Summary, ...]


def tabulate(scores: Sequence[Score], notes: Sequence[str] = ()) -> Table:
    """The table of scores of one protocol: a row per group of scans, region and model; a column per metric.

    Args:
        scores: Of any models, scans and datasets.
        notes: Further lines below the table, such as why LPIPS is left out.

    Raises:
        ConfigError: The scores are of several protocols, or one is there twice.
    """
    summaries = summarize(scores)
    metrics = [metric for metric in METRICS if any(row.metric == metric for row in summaries)]
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
            rows.append((group, region, model, f"{count}{unit}", *(_cell(row, count) for row in found)))
    header = ("scans", "region", "model", "n", *(" ".join(HEADINGS[metric]) for metric in metrics))
    descriptions = dict.fromkeys(score.described for score in scores if score.described)
    return Table(header, tuple(rows), (*descriptions, *_legend(rows), *notes), tuple(summaries))


def to_markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table with its notes below."""
    lines = [_pipes(table.header), _pipes(["---"] * 4 + ["---:"] * (len(table.header) - 4))]
    lines += [_pipes([cell.replace("|", "\\|") for cell in row]) for row in table.rows]
    return "\n".join(lines) + "\n\n" + "\n\n".join(table.notes) + "\n"


def to_latex(table: Table) -> str:
    r"""A LaTeX tabular (needs `booktabs`), notes as comments above it."""
    columns = "llll" + "r" * (len(table.header) - 4)
    body = [" & ".join(map(_latex, row)) + r" \\" for row in (table.header, *table.rows)]
    lines = [*(f"% {note}" for note in table.notes), rf"\begin{{tabular}}{{{columns}}}", r"\toprule", body[0]]
    return "\n".join([*lines, r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_csv(table: Table) -> str:
    """One line per summary with unrounded numbers; nan as an empty field, infinity as "inf"."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([field.name for field in fields(Summary)])
    for row in table.summaries:
        values = astuple(row)
        writer.writerow(["" if isinstance(value, float) and math.isnan(value) else value for value in values])
    return stream.getvalue()


def _cell(row: Summary | None, count: int) -> str:
    if row is None or row.n == 0:
        return "–"
    fewer = f" (n={row.n})" if row.n < count else ""
    if math.isinf(row.mean):
        return f"∞ ({row.infinite} exact){fewer}"
    digits = DECIMALS[row.metric]
    text = f"{row.mean:.{digits}f}"
    if not math.isnan(row.deviation):
        text += f" ± {row.deviation:.{digits}f}"
    if not math.isnan(row.low):
        text += f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    return text + fewer


def _legend(rows: Sequence[tuple[str, ...]]) -> list[str]:
    text = "".join(cell for row in rows for cell in row)
    if "[" not in text and "±" not in text:
        return []
    return ["Cells: mean ± standard deviation over scans [95 % bootstrap interval of the mean]."]


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(text: str) -> str:
    escaped = "".join(LATEX_SPECIAL.get(sign, sign) for sign in text)
    return "".join(LATEX_SYMBOLS.get(sign, sign) for sign in escaped)
