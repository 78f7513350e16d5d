"""What a table of scores means, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from maesil.counts import count_of
from maesil.evaluation.paired import pair
from maesil.evaluation.scores import Score
from maesil.models import UNTRAINED

UNLEARNT = "the best row without training"


def verdict_note(scores: Sequence[Score], model: str) -> tuple[str, ...]:
    """Whether a model is better than the best row without training, in masked PSNR; empty without such scores.

    Args:
        scores: Scores of the model and of rows without training, on the same scans.
        model: Name of the model's row.
    """
    rows = _rows(scores, model, "psnr")
    if not rows:
        return ()
    row = max(rows.values(), key=lambda row: row.difference)
    said = f"On masked voxels, {model} {against(row, row.entry, UNLEARNT)}.{not_learnt(row, row.entry)}"
    ssim = _means(scores, "ssim")
    if row.entry in _rows(scores, model, "ssim"):
        said += f" Its SSIM is {ssim[model]:.4f}, that of {row.entry} {ssim[row.entry]:.4f}."
    return (said,)


def against(row: Any, name: str, rival: str) -> str:
    """A model against one row, as "is ahead of kriging, the best row without training, by 1.12 dB (...)".

    Args:
        row: The row of `pair`, whose differences in PSNR are the rival's minus the model's.
        name: Name of the rival.
        rival: What the rival is.
    """
    gain = -row.difference
    scans = f"with the higher PSNR on {row.n - row.larger} of {count_of(row.n, 'scan')}"
    if math.isnan(row.low):
        return f"is {_way(gain)} {name}, {rival}, by {abs(gain):.2f} dB ({scans}), on one patient, which says little"
    interval = f"95 % interval {-row.high:+.2f} to {-row.low:+.2f} dB"
    if _is_open(row):
        patients = count_of(row.patients, "patient shows", "patients show")
        return f"is level with {name}, {rival}, as far as {patients} ({gain:+.2f} dB, {interval}; {scans})"
    return f"is {_way(gain)} {name}, {rival}, by {abs(gain):.2f} dB ({interval}; {scans})"


def not_learnt(row: Any, name: str) -> str:
    """A sentence, after a space, if a model is behind a row without training; empty otherwise."""
    return f" So far, {name}, which learns nothing, is better." if row.difference > 0 and not _is_open(row) else ""


def _is_open(row: Any) -> bool:
    """Whether the interval of the difference contains zero."""
    return bool(row.low <= 0 <= row.high)


def _way(gain: float) -> str:
    return "ahead of" if gain > 0 else "behind"


def _rows(scores: Sequence[Score], model: str, metric: str) -> dict[str, Any]:
    """Rows without training to their difference from a model, in a metric on masked voxels."""
    compared = [each for each in _masked(scores, metric) if each.model == model or each.model in UNTRAINED]
    return {row.entry: row for row in pair(compared, model).itertuples()}


def _means(scores: Sequence[Score], metric: str) -> dict[str, float]:
    """Means over scans of a metric on masked voxels, by model."""
    values: dict[str, list[float]] = {}
    for each in _masked(scores, metric):
        if math.isfinite(each.value):
            values.setdefault(each.model, []).append(each.value)
    return {model: sum(row) / len(row) for model, row in values.items()}


def _masked(scores: Sequence[Score], metric: str) -> list[Score]:
    return [each for each in scores if (each.metric, each.region) == (metric, "masked")]
