"""Tables of text, written as Markdown, LaTeX or CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

LATEX_SYMBOLS = {
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "±": r"$\pm$",
    "∞": r"$\infty$",
    "–": "--",
    "Δ": r"$\Delta$",
}
LATEX_SPECIAL = {"\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}"}
LATEX_SPECIAL |= {"^": r"\textasciicircum{}"}


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        header: Column titles.
        rows: Cells by row.
        notes: Lines below the table.
        texts: Number of leading text columns; the others are numbers, aligned to the right.
        best: Cells (row, column) to set in bold.
        title: Title above the table.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    texts: int = 1
    best: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    title: str = ""


def sheet_to_markdown(sheet: Sheet) -> str:
    """A GitHub-flavoured Markdown table, with its title above and its notes below."""
    lines = [f"### {sheet.title}\n"] if sheet.title else []
    lines += [_pipes(sheet.header), _pipes(["---"] * sheet.texts + ["---:"] * (len(sheet.header) - sheet.texts))]
    for index, row in enumerate(sheet.rows):
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(_pipes([f"**{cell}**" if (index, at) in sheet.best else cell for at, cell in enumerate(cells)]))
    return "\n".join(lines) + "\n\n" + "\n\n".join(sheet.notes) + "\n"


def sheet_to_latex(sheet: Sheet) -> str:
    r"""A LaTeX tabular (needs `booktabs`), with title and notes as comments above it."""
    rows = [
        [rf"\textbf{{{_latex(cell)}}}" if (index, at) in sheet.best else _latex(cell) for at, cell in enumerate(row)]
        for index, row in enumerate(sheet.rows)
    ]
    frame = pd.DataFrame(rows, columns=[_latex(title) for title in sheet.header])
    columns = "l" * sheet.texts + "r" * (len(sheet.header) - sheet.texts)
    comments = [f"% {line}\n" for line in (sheet.title, *sheet.notes) if line]
    return "".join(comments) + str(frame.to_latex(index=False, escape=False, column_format=columns))


def sheet_to_csv(sheet: Sheet) -> str:
    """The header and cells as CSV, without title and notes."""
    return frame_to_csv(pd.DataFrame(sheet.rows, columns=list(sheet.header)))


def frame_to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV, without its index: unrounded numbers, nan as an empty field, infinity as "inf"."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def cell(
    mean: float,
    deviation: float = math.nan,
    low: float = math.nan,
    high: float = math.nan,
    median: float = math.nan,
    *,
    digits: int,
    sign: str = "",
) -> str:
    """The text "mean ± deviation [low, high]; median" without the parts that are nan; "–" if the mean is.

    Args:
        mean: Mean of the values.
        deviation: Their standard deviation.
        low: Lower end of an interval of the mean.
        high: Upper end of the interval.
        median: Their median.
        digits: Number of decimals.
        sign: "+" to always show the sign of all but the deviation.
    """
    if math.isnan(mean):
        return "–"
    number = f"{sign}.{digits}f"
    text = f"{mean:{number}}"
    if not math.isnan(deviation):
        text += f" ± {deviation:.{digits}f}"
    if not math.isnan(low):
        text += f" [{low:{number}}, {high:{number}}]"
    return text if math.isnan(median) else f"{text}; {median:{number}}"


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(text: str) -> str:
    escaped = "".join(LATEX_SPECIAL.get(sign, sign) for sign in text)
    return "".join(LATEX_SYMBOLS.get(sign, sign) for sign in escaped)
