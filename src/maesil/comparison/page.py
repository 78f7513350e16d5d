"""The self-contained HTML page of a comparison: opens from disk, needs no network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import jinja2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maesil.comparison.result import Comparison
from maesil.comparison.standing import standing
from maesil.comparison.viewer import encode_cases
from maesil.evaluation.sheet import Sheet
from maesil.files import write_text
from maesil.report.case import VIEWS, Case


def write_page(
    path: Path,
    comparison: Comparison,
    sheets: Sequence[Sheet],
    figures: Mapping[str, Figure],
    cases: Mapping[str, Sequence[Case]],
) -> Path:
    """Writes the page atomically.

    Args:
        path: File to write.
        comparison: The comparison to show.
        sheets: The tables, in order.
        figures: Caption to plot.
        cases: Row to the reconstructed scans; empty if none are kept.
    """
    here, report = resources.files("maesil.comparison"), resources.files("maesil.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((here / "page.html").read_text(encoding="utf-8"))
    scans = encode_cases(cases)
    html = template.render(
        comparison=comparison,
        verdict=standing(comparison),
        sheets=sheets,
        failed=[result for result in comparison.results if result.failed],
        figures={caption: _png(figure) for caption, figure in figures.items()},
        scans=scans,
        models=list(cases),
        views=VIEWS,
        panels=("original", "masked input", "reconstruction", "absolute error"),
        data=json.dumps(scans).replace("<", "\\u003c"),
        style=(report / "page.css").read_text(encoding="utf-8") + (here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
    )
    return write_text(path, html)


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, dpi=130, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
