"""What a table of scores means, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maesil.counts import count_of
from maesil.evaluation.scores import Score, score_frame
from maesil.models import UNTRAINED


def verdict_note(scores: Sequence[Score], model: str) -> tuple[str, ...]:
    """Whether a model is better than the best row without training, in masked PSNR; empty without such scores.

    Args:
        scores: Scores of the model and of rows without training, on the same scans.
        model: Name of the model's row.
    """
    frame = score_frame(scores)
    masked = frame[(frame["metric"] == "psnr") & (frame["region"] == "masked") & np.isfinite(frame["value"])]
    values = masked.pivot_table(index="scan", columns="model", values="value")
    others = [name for name in UNTRAINED if name in values]
    if model not in values or not others:
        return ()
    rival = max(others, key=lambda name: float(values[name].mean()))
    lead = (values[model] - values[rival]).dropna()
    ahead, gain = int((lead > 0).sum()), float(lead.mean())
    best = f"{rival}, the best row without training,"
    if gain > 0:
        verdict = f"ahead of {best} by {gain:.2f} dB PSNR (on {ahead} of {count_of(len(lead), 'scan')})."
    else:
        verdict = f"behind {best} by {-gain:.2f} dB PSNR (ahead on {ahead} of {len(lead)}). "
        verdict += f"It has not learnt more than {rival} yet."
    return (f"On masked voxels, {model} is {verdict}",)
