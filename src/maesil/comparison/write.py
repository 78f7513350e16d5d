"""Everything that a comparison leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from maesil.comparison.result import Comparison
from maesil.evaluation.tables import tabulate, to_markdown
from maesil.report.case import Case


def write_all(comparison: Comparison, cases: Mapping[str, Sequence[Case]], out: Path) -> Path:
    """Writes the tables."""
    (out / "table2.md").write_text(to_markdown(tabulate(comparison.scores, comparison.notes)), encoding="utf-8")
    return out / "table2.md"
