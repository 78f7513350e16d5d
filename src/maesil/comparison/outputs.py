"""Writing the output files of a comparison: tables, figures, one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from maesil.comparison.figures import compression_figure, curves_figure, figure3
from maesil.comparison.page import write_page
from maesil.comparison.result import Comparison
from maesil.comparison.standing import standing
from maesil.comparison.tables import cost_csv, cost_tables, paired_csv, table2, table2_csv, table3, table3_csv
from maesil.evaluation.sheet import Sheet, sheet_to_latex, sheet_to_markdown
from maesil.files import write_text
from maesil.report.case import Case
from maesil.report.figures import save_figure


def write_all(comparison: Comparison, cases: Mapping[str, Sequence[Case]], out: Path) -> Path:
    """Writes tables (.md, .tex, .csv), figures (.png) and index.html; table2.md and the page have the verdict, too.

    Args:
        comparison: The comparison, complete or in part: results may have failed.
        cases: Row to the reconstructed scans, the same ones in the same order in every row; may be empty.
        out: The output folder.

    Returns:
        Path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    tables = {"table2": table2(comparison), "table3": table3(comparison), "cost": cost_tables(comparison)}
    for name, sheets in tables.items():
        if name == "cost" and not sheets:  # no model is trained; an earlier call may have trained one
            for ending in ("md", "tex"):
                (out / f"cost.{ending}").unlink(missing_ok=True)
            continue
        verdict = [f"{standing(comparison)}\n"] if name == "table2" and standing(comparison) else []
        write_text(out / f"{name}.md", "\n".join([*map(sheet_to_markdown, _once(sheets)), *verdict]))
        write_text(out / f"{name}.tex", "\n".join(map(sheet_to_latex, _once(sheets))))
    write_text(out / "table2.csv", table2_csv(comparison))
    write_text(out / "table3.csv", table3_csv(comparison))
    write_text(out / "paired.csv", paired_csv(comparison))
    write_text(out / "cost.csv", cost_csv(comparison))
    figures = {
        caption: figure
        for caption, name, figure in (
            ("PSNR against the bits of the bottleneck", "compression", compression_figure(comparison)),
            ("Held-out masked PSNR during training", "curves", curves_figure(comparison)),
        )
        if figure is not None and _saved(figure, out / f"{name}.png")
    }
    _write_figure3(cases, out)
    sheets = [sheet for name in tables for sheet in tables[name]]
    return write_page(out / "index.html", comparison, _once(sheets), figures, cases)


def _write_figure3(cases: Mapping[str, Sequence[Case]], out: Path) -> None:
    """Writes the first scan to figure3.png and the others to numbered files; errors to figure3-error files."""
    count = len(next(iter(cases.values()), ()))
    for number in range(count):
        shown = {name: cases[name][number] for name in cases}
        ending = "" if number == 0 else f"-{number + 1}"
        save_figure(figure3(shown), out / f"figure3{ending}.png")
        save_figure(figure3(shown, error=True), out / f"figure3-error{ending}.png")


def _saved(figure: Figure, path: Path) -> bool:
    save_figure(figure, path, dpi=150)
    return True


def _once(sheets: Sequence[Sheet]) -> list[Sheet]:
    """The sheets, with repeated notes only below the first."""
    said: set[str] = set()
    shown = []
    for sheet in sheets:
        notes = [note for note in sheet.notes if note not in said]
        said.update(notes)
        shown.append(Sheet(sheet.header, sheet.rows, notes, sheet.texts, sheet.best, sheet.title))
    return shown
