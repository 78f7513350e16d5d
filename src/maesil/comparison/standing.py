"""Where our row stands in a comparison, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from maesil.comparison.result import Comparison
from maesil.evaluation.verdict import UNLEARNT, against, not_learnt
from maesil.models import UNTRAINED

TRAINED = "the best other trained row"


def standing(comparison: Comparison) -> str:
    """Whether ours is ahead of the best row without training, and of the best other trained one, in masked PSNR.

    Rivals are ranked rows that see the same voxels. It is empty without any, and if ours is not ranked or not trained.

    Args:
        comparison: The comparison, complete or in part.
    """
    if not any(comparison.ours in result.entries for result in comparison.results if result.model not in UNTRAINED):
        return ""
    tested = comparison.paired.query("region == 'masked' and metric == 'psnr'")
    rows = {row.entry: row for row in tested.itertuples()}
    found = [
        (rival, row)
        for rival, entries in _rivals(comparison).items()
        if (row := max((rows[name] for name in entries if name in rows), key=lambda row: row.difference, default=None))
    ]
    if not found:
        return ""
    said = "; and ".join(against(row, comparison.shown(row.entry), rival) for rival, row in found)
    text = f"On masked voxels, {comparison.shown(comparison.ours)} {said}."
    rival, row = found[0]
    if rival == UNLEARNT:
        text += not_learnt(row, comparison.shown(row.entry))
    return text


def _rivals(comparison: Comparison) -> dict[str, list[str]]:
    """Kind of rival to its rows that see what ours sees; rows of our own model are none."""
    others = [result for result in comparison.results if comparison.ours not in result.entries]
    same = comparison.sees[comparison.ours]

    def rows(untrained: bool) -> list[str]:
        kind: Iterable[Any] = (result for result in others if (result.model in UNTRAINED) == untrained)
        return [entry for result in kind for entry, sees in result.entries.items() if sees == same]

    return {UNLEARNT: rows(untrained=True), TRAINED: rows(untrained=False)}
