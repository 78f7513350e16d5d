"""What a table of scores means, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from maesil.counts import count_of
from maesil.evaluation.scores import Score, score_frame
from maesil.models import UNTRAINED


def verdict_note(scores: Sequence[Score], model: str) -> tuple[str, ...]:
    """Whether a model is better than the best row without training, in masked PSNR; empty without such scores.

    Args:
        scores: Scores of the model and of rows without training, on the same scans.
        model: Name of the model's row.
    """
    psnr, ssim = (_masked(scores, metric) for metric in ("psnr", "ssim"))
    others = [name for name in UNTRAINED if name in psnr]
    if model not in psnr or not others:
        return ()
    best = max(others, key=lambda name: float(psnr[name].mean()))
    lead = (psnr[model] - psnr[best]).dropna()
    gain = float(lead.mean())
    sign = "ahead of" if gain > 0 else "behind"
    count = f"on {int((lead > 0).sum())} of {count_of(len(lead), 'scan')}, it has the higher PSNR"
    if {model, best} <= set(ssim):
        count += f"; SSIM is {ssim[model].mean():.4f}, that of {best} {ssim[best].mean():.4f}"
    unlearnt = "" if gain > 0 else f" It has not learnt more than {best} yet."
    return (
        f"On masked voxels, {model} is {sign} {best}, the best row without training, by {abs(gain):.2f} dB on average "
        f"({count}).{unlearnt}",
    )


def _masked(scores: Sequence[Score], metric: str) -> pd.DataFrame:
    """Scores of a metric on masked voxels, a scan per row and a model per column."""
    frame = score_frame(scores)
    masked = frame[(frame["metric"] == metric) & (frame["region"] == "masked") & np.isfinite(frame["value"])]
    return masked.pivot_table(index="scan", columns="model", values="value")
