"""Summaries of scores over scans: means, medians, deviations, intervals over patients; micro and macro averages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from maesil.errors import ConfigError
from maesil.evaluation.intervals import patient_interval
from maesil.evaluation.scores import KEY, Score, score_frame

ALL_SCANS = "all scans"
MEAN_OF_DATASETS = "mean of datasets"
WHAT = ["model", "region", "metric"]
COLUMNS = (
    "group", "model", "region", "metric", "n", "patients", "undefined", "infinite",
    "mean", "median", "deviation", "low", "high", "draw_spread", "seeds", "seed_deviation",
)  # fmt: skip


def summarize(scores: Sequence[Score]) -> pd.DataFrame:
    """Summarises every model, region and metric: over all scans and, if there are several, over and per dataset.

    A scan that was scored with several training seeds counts once, with the mean of its scores.

    Returns:
        A frame with a row per group of scans, model, region and metric, and these columns:

        - group: A dataset, `ALL_SCANS` (micro: every scan counts equally) or `MEAN_OF_DATASETS` (macro).
        - model: Model that reconstructed the scans.
        - region: A name in `maesil.evaluation.protocol.REGIONS`.
        - metric: A name in `maesil.evaluation.measures.METRICS`.
        - n: Number of scans with a defined value; for the macro mean, of datasets.
        - patients: Number of patients of these scans.
        - undefined: Number of scans left out because their value is nan.
        - infinite: Number of scans with an infinite value: reconstructed exactly.
        - mean: Mean over scans (macro: over the datasets' means); inf if any value is infinite.
        - median: Median over scans (macro: over the datasets' means).
        - deviation: Sample standard deviation over scans; nan for fewer than two, or if any value is infinite.
        - low: Lower end of the 95 % bootstrap interval of the mean, patients resampled (macro: within each dataset);
          nan for fewer than two patients, or if the deviation is nan.
        - high: Upper end of the interval.
        - draw_spread: Root mean square, over scans, of the standard deviation over mask draws; nan if there is none.
        - seeds: Number of training seeds.
        - seed_deviation: Sample standard deviation over seeds of the mean over scans; nan for fewer than two.

    Raises:
        ConfigError: The scores are from different protocols, or from superpatches or patches of different sizes, or
            two have the same key.
    """
    frame = score_frame(scores)
    _check(frame)
    several = frame["dataset"].nunique() > 1
    scans, rows = scan_means(frame).groupby(WHAT, sort=False), []
    for what, found in frame.groupby(WHAT, sort=False):
        means = scans.get_group(what)
        rows.append(_summary(ALL_SCANS, found, means))
        if several:
            rows.append(_summary(MEAN_OF_DATASETS, found, means))
            rows += [
                _summary(name, found[found["dataset"] == name], means[means["dataset"] == name])
                for name in means["dataset"].unique()
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def scan_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Every scan's mean over training seeds, from a frame of scores; nan if one of its scores is."""
    values = frame.groupby([*WHAT, "dataset", "scan", "patient"], sort=False)["value"]
    return values.mean().where(values.count() == values.size()).reset_index()


def _summary(group: str, scores: pd.DataFrame, scans: pd.DataFrame) -> dict[str, Any]:
    """The summary of one model's scores in one region and metric, and of its scans' means over training seeds."""
    macro = group == MEAN_OF_DATASETS
    defined = scans[scans["value"].notna()]
    values = defined.groupby("dataset", sort=False)["value"].mean() if macro else defined["value"]
    low = high = math.nan
    if len(values) > 1:
        low, high = patient_interval(defined["value"], defined["patient"], defined["dataset"] if macro else None)
    of_seeds = scores.groupby("seed")["value"].mean().dropna()
    return {
        "group": group,
        **scores.iloc[0][WHAT],
        "n": len(values),
        "patients": defined["patient"].nunique(),
        "undefined": len(scans) - len(defined),
        "infinite": int(np.isinf(defined["value"]).sum()),
        "mean": values.mean(),
        "median": values.median(),
        "deviation": _deviation(values),
        "low": low,
        "high": high,
        "draw_spread": math.sqrt((scores["spread"].dropna() ** 2).mean()),
        "seeds": len(of_seeds),
        "seed_deviation": _deviation(of_seeds),
    }


def _deviation(values: pd.Series) -> float:
    return float(values.std()) if np.isfinite(values).all() else math.nan


def _check(frame: pd.DataFrame) -> None:
    protocols = sorted(frame["protocol"].unique())
    if len(protocols) > 1:
        raise ConfigError(
            f"scores of {len(protocols)} protocols cannot share a table: {', '.join(protocols)}",
            fix="evaluate with one protocol, or make one table per protocol",
        )
    grids = sorted(set(frame["grid"]) - {""})  # of earlier versions, it is unknown
    if len(grids) > 1:
        raise ConfigError(
            f"scores of {len(grids)} sizes of superpatches / patches cannot share a table: {', '.join(grids)}",
            fix="make one table per size: under other masks, even models that learn nothing score differently",
        )
    for score in frame[frame.duplicated(KEY)].itertuples():
        raise ConfigError(
            f"two scores for {score.metric} ({score.region}) of {score.model}", where=f"scan {score.scan}"
        )
