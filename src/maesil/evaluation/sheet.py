"""Tables of text, written as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

LATEX_SYMBOLS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "∞": r"$\infty$", "–": "--", "Δ": r"$\Delta$"}
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
    columns = "l" * sheet.texts + "r" * (len(sheet.header) - sheet.texts)
    body = []
    for index, row in enumerate(sheet.rows):
        cells = [
            rf"\textbf{{{_latex(cell)}}}" if (index, at) in sheet.best else _latex(cell) for at, cell in enumerate(row)
        ]
        body.append(" & ".join(cells) + r" \\")
    head = " & ".join(map(_latex, sheet.header)) + r" \\"
    comments = [f"% {line}" for line in (sheet.title, *sheet.notes) if line]
    lines = [*comments, rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def sheet_to_csv(sheet: Sheet) -> str:
    """The header and cells as CSV, without title and notes."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([sheet.header, *sheet.rows])
    return stream.getvalue()


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex(text: str) -> str:
    escaped = "".join(LATEX_SPECIAL.get(sign, sign) for sign in text)
    return "".join(LATEX_SYMBOLS.get(sign, sign) for sign in escaped)
