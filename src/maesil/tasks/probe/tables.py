"""The table of `probe`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from maesil.counts import count_of
from maesil.encoder.pool import Pool
from maesil.evaluation.intervals import interval_of
from maesil.evaluation.sheet import Sheet, cell
from maesil.store.scanstore import ScanEntry
from maesil.tasks.probe.answers import PRETRAINED, Answer, Asked
from maesil.tasks.probe.ridge import PENALTIES
from maesil.tasks.probe.samples import PATCHES_PER_SCAN, Parts, Targets

DIGITS = 3
HEADER = ("asked for", "of a", "probe", "blocks", "pre-trained", "random weights", "difference")
PROBES = {"linear": "linear", "knn": "5 nearest neighbours"}


POOLED: Mapping[Pool, str] = {"mean": "the mean", "mean_std": "the mean and the standard deviation"}
"""What a superpatch's vector keeps of its tokens, in words."""


def probe_sheet(
    answers: Sequence[Answer],
    targets: Targets,
    parts: Parts,
    split: str,
    notes: Sequence[str],
    *,
    pool: Pool = "mean",
) -> Sheet:
    """A row per question and depth: AUROC of the pre-trained encoder, of random ones, and the difference.

    Args:
        answers: One per question, depth and start.
        targets: What was asked.
        parts: Training scans and test scans.
        split: Name of the split that was tested.
        notes: Further lines below the table.
        pool: What a superpatch's vector kept of its tokens.
    """
    rows = [_row(asked, depth, answers) for asked, depth in _cells(answers)]
    starts = len({answer.start for answer in answers}) - 1
    asked = [f"Organs: {', '.join(targets.organs.names)}."] if targets.organs.names else []
    asked += [f"Datasets: {', '.join(targets.datasets)}."] if targets.datasets else []
    return Sheet(
        HEADER,
        rows,
        (
            *asked,
            f"Probes are trained on frozen features of {count_of(len(parts[0]), 'training scan')} and tested on "
            f"{count_of(len(parts[1]), 'scan')} of the split '{split}'. blocks: number of encoder blocks before the "
            "features; 0 is the embedding with positions. Cells: AUROC, one target against the rest, mean over targets "
            "[95 % bootstrap interval, patients resampled; none for a single patient]; random weights: "
            f"{f'mean ± standard deviation over {starts} starts' if starts > 1 else 'one start'}; difference: "
            "pre-trained minus the mean over random starts.",
            f"Linear probes are ridge regressions on standardised features; {_penalty_text(parts[0])}.",
            f"A superpatch's vector is {POOLED[pool]} of its tokens that are not air; it has an organ if it has a "
            "voxel of it. Organs that were not marked in a scan are not asked there. Patches have their tokens; up to "
            f"{PATCHES_PER_SCAN} of a scan are used. Their AUROC is calculated in each patient, and averaged.",
            *_gaps(answers),
            *notes,
        ),
        texts=4,
        title="Frozen features",
    )


def _penalty_text(training: Sequence[ScanEntry]) -> str:
    """How the penalty is chosen; of a single training patient, none can be left out to choose it on."""
    if len({entry.patient for entry in training}) > 1:
        return "the penalty of each is chosen by cross-validation over the training patients"
    return f"as there is one training patient, none is left out to choose a penalty on: it is {PENALTIES[0]:g} for all"


def _gaps(answers: Sequence[Answer]) -> list[str]:
    """Which rows have no AUROC for a target, or no interval, and why; the same for both probes of a question."""
    shown = {(one.asked.target, one.asked.unit): one for one in answers if one.start == PRETRAINED}
    gaps = []
    for (target, unit), answer in shown.items():
        row = f"{target} of a {unit}"
        if answer.untold:
            listed = "; ".join(f"{name}, as {why}" for name, why in answer.untold.items())
            gaps.append(f"{row}: nothing can be told of {listed}.")
        if answer.patients == 1:
            gaps.append(f"{row}: no interval, as it rests on one test patient.")
    return gaps


def _cells(answers: Sequence[Answer]) -> Iterator[tuple[Asked, int]]:
    yield from dict.fromkeys((answer.asked, answer.depth) for answer in answers)


def _row(asked: Asked, depth: int, answers: Sequence[Answer]) -> tuple[str, ...]:
    own = [answer for answer in answers if answer.asked == asked and answer.depth == depth]
    (trained,) = (answer for answer in own if answer.start == PRETRAINED)
    random = [answer for answer in own if answer.start != PRETRAINED]
    levels = np.array([answer.auroc for answer in random])
    spread = float(levels.std(ddof=1)) if len(levels) > 1 else float("nan")
    resampled = trained.resampled - np.mean([answer.resampled for answer in random], axis=0)
    return (
        asked.target,
        asked.unit,
        PROBES[asked.probe],
        str(depth),
        cell(trained.auroc, low=ends_of(trained.resampled)[0], high=ends_of(trained.resampled)[1], digits=DIGITS),
        cell(float(levels.mean()), spread, digits=DIGITS),
        cell(
            trained.auroc - float(levels.mean()),
            low=ends_of(resampled)[0],
            high=ends_of(resampled)[1],
            digits=DIGITS,
            sign="+",
        ),
    )


def ends_of(resampled: Float[np.ndarray, " r"]) -> tuple[float, float]:
    """Ends of the interval of the resamples that have a value; NaN if none has."""
    told = resampled[np.isfinite(resampled)]
    return interval_of(told) if len(told) else (float("nan"), float("nan"))
