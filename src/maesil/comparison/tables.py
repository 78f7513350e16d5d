"""Tables II and III, and the table of costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from maesil.comparison.paper import PAPER_NOTE, TABLE_2, TABLE_3
from maesil.comparison.result import (
    BITS_PER_NUMBER,
    EVERYTHING,
    OUR_MODEL,
    OURS,
    RANKED,
    SIGHTS,
    VISIBLE,
    Comparison,
    Cost,
    ModelResult,
)
from maesil.counts import count_of
from maesil.evaluation.measures import METRICS
from maesil.evaluation.protocol import REGION_TEXT, REGIONS
from maesil.evaluation.sheet import Sheet, cell, frame_to_csv
from maesil.evaluation.summary import ALL_SCANS, MEAN_OF_DATASETS
from maesil.evaluation.tables import CELL, best_cells, metric_notes, shown_metrics, two_way

CELLS = f"Cells: {CELL}; best of its kind in bold."
DIFFERENCES = (
    "Δ PSNR: the row minus {reference}, mean over scans [95 % bootstrap interval, patients resampled]; "
    "median; scans on which the row is ahead. p: two-sided Wilcoxon signed-rank test over patients, Holm-corrected; – "
    "with fewer than 6 patients, where p is never below 0.05. Rows with their own masks are scored on other voxels, "
    "and rows with hints are given information about the hidden ones: neither ranked nor tested."
)


def table2(comparison: Comparison) -> list[Sheet]:
    """Table II, once per region that was scored; first for masked voxels, on which models that do not see them rank."""
    return [_table2(comparison, region) for region in REGIONS if _has(comparison, region)]


def _table2(comparison: Comparison, region: str) -> Sheet:
    means = comparison.summaries
    means = means[(means["group"] == ALL_SCANS) & (means["region"] == region)]
    metrics = shown_metrics(means)
    printed = {entry: _printed(comparison, result, entry) for result, entry in _rows(comparison, region)}
    quotable = [metric for metric in metrics if any(metric in values for values in printed.values())]
    tested = comparison.paired.query("region == @region and metric == 'psnr'")
    differences = {row.entry: _difference(row) for row in tested.itertuples()}
    cells, best = _grid(comparison, region, means, "metric", metrics)
    rows = []
    for (entry, quoted), row in zip(printed.items(), cells, strict=True):
        paper = [f"{quoted[metric]:.2f}" if metric in quoted else "–" for metric in quotable]
        rows.append((*row, *differences.get(entry, ("–", "–")), *paper))
    header = ("model", "sees", *(METRICS[metric].title for metric in metrics), "Δ PSNR", "p")
    header += tuple(f"paper: {METRICS[metric].heading}" for metric in quotable)
    title = f"Table II, {region} voxels ({_n(comparison)})"
    about = metric_notes(comparison.summaries)
    differences_note = DIFFERENCES.format(reference=comparison.reference)
    paper_note = (PAPER_NOTE,) if quotable else ()
    notes = (REGION_TEXT[region] + ".", CELLS, differences_note, *paper_note, *_failures(comparison), *about)
    return Sheet(header, rows, (*notes, *_notes(comparison)), 2, best, title)


def table3(comparison: Comparison) -> list[Sheet]:
    """Table III: PSNR by dataset, every model, in the regions that were scored."""
    return [_table3(comparison, region) for region in REGIONS if _has(comparison, region)]


def _table3(comparison: Comparison, region: str) -> Sheet:
    means = comparison.summaries.query("region == @region and metric == 'psnr'")
    datasets = list(dict.fromkeys(score.dataset for score in comparison.scores))
    groups = [*datasets, ALL_SCANS, MEAN_OF_DATASETS] if len(datasets) > 1 else [ALL_SCANS]
    rows, best = _grid(comparison, region, means, "group", groups)
    paper = [f"{TABLE_3[group.lower()]:.2f}" if group.lower() in TABLE_3 else "–" for group in groups]
    quotes = comparison.reference == OURS and any(text != "–" for text in paper)
    if quotes:
        rows.append(("MAESIL, as the paper prints it", VISIBLE, *paper))
    counts = means.groupby("group")["n"].max()
    header = ("model", "sees", *(f"{group} (n={counts.get(group, 0)})" for group in groups))
    notes = (CELLS, *((PAPER_NOTE,) if quotes else ()), *_failures(comparison), *_entrant_notes(comparison))
    return Sheet(header, rows, notes, 2, best, f"Table III, PSNR in dB, {region} voxels")


def _grid(
    comparison: Comparison, region: str, means: pd.DataFrame, column: str, names: Sequence[str]
) -> tuple[list[tuple[str, ...]], frozenset[tuple[int, int]]]:
    """The rows of a table (name, what it sees, cells), and the cells that are best among rows that see the same.

    Args:
        comparison: The comparison.
        region: The region that was scored.
        means: Summaries, one per cell.
        column: Column of the summaries that names the table's columns.
        names: Names of the table's columns, in order.
    """
    rows = _rows(comparison, region)
    texts, goodness = two_way(means, "model", [entry for _, entry in rows], column, names)
    sees = [result.entries[entry] for result, entry in rows]
    best = best_cells(goodness, [one if one in RANKED else None for one in sees], 2)
    shown = [_named(result, entry) for result, entry in rows]
    return list(zip(shown, sees, *(texts[name] for name in names), strict=True)), best


def cost_tables(comparison: Comparison) -> list[Sheet]:
    """The table of parameters, bottlenecks and training costs; none if no model is trained."""
    return [_cost_table(comparison)] if any(result.cost or result.failed for result in comparison.results) else []


def _cost_table(comparison: Comparison) -> Sheet:
    header = (
        "model", "parameters", "latent elements", "compression", "latent bits", "bits per voxel",
        "GFLOP per superpatch", f"of {comparison.reference}",
        "seeds", "steps", "superpatches", "seconds", "superpatches/s", "peak GiB",
    )  # fmt: skip
    ours = next(
        (result.cost.flops for result in comparison.results if result.cost and result.delivered == comparison.ours),
        0.0,
    )
    rows = [
        (
            _named(result, result.label),
            *(_cost(result.cost, len(result.seeds), ours) if result.cost else ("–",) * (len(header) - 1)),
        )
        for result in comparison.results
        if result.cost or result.failed
    ]
    whose = "our" if comparison.reference == OURS else "that"
    notes = (
        f"Budget: {comparison.budget}.",
        f"Compression: voxels of a superpatch per latent element. Latent bits: those that encode codes, or "
        f"{BITS_PER_NUMBER} for each free number. FLOPs: of a training step, forward and backward, as PyTorch counts "
        f"them; of {comparison.reference}: as a multiple of {whose} row's. Superpatches: over all devices. Seconds: "
        "time of training steps, the mean over seeds, on a machine that may have been shared. Peak GiB: memory of the "
        "training process.",
        *_failures(comparison),
    )
    return Sheet(header, rows, notes, 1, title="What each model is, and took")


def paired_csv(comparison: Comparison) -> str:
    """Every difference from ours as CSV, unrounded."""
    return frame_to_csv(comparison.paired)


def table2_csv(comparison: Comparison) -> str:
    """Every mean over all scans as CSV, unrounded, with the paper's value; and why a model has none."""
    means = comparison.summaries
    return _means_csv(comparison, means[means["group"] == ALL_SCANS])


def table3_csv(comparison: Comparison) -> str:
    """Every mean by dataset as CSV, unrounded, with the paper's value; and why a model has none."""
    return _means_csv(comparison, comparison.summaries)


def _means_csv(comparison: Comparison, means: pd.DataFrame) -> str:
    results, scored = {entry: result for result, entry in _rows(comparison)}, set(means["model"])
    rows = pd.DataFrame(
        [(entry, one.entries[entry], None if entry in scored else one.failed) for entry, one in results.items()],
        columns=["model", "sees", "failed"],
    )
    # As objects, whole numbers stay whole beside rows that have none.
    means = means[means["model"].isin(results)].astype(object)
    paper = [_printed(comparison, results[m.model], m.model, m.group).get(m.metric) for m in means.itertuples()]
    table = means.assign(paper=paper).merge(rows, on="model", how="right")
    return frame_to_csv(table[[*means, "sees", "paper", "failed"]])


def cost_csv(comparison: Comparison) -> str:
    """Every cost as CSV, unrounded; and why a model has none."""
    rows = [
        {"label": result.label, "model": result.model, "failed": result.failed}
        | (asdict(result.cost) if result.cost else {})
        for result in comparison.results
    ]
    names = ["label", "model", "failed", *(field.name for field in fields(Cost))]
    return frame_to_csv(pd.DataFrame(rows, columns=names, dtype=object))


def _rows(comparison: Comparison, region: str | None = None) -> list[tuple[ModelResult, str]]:
    """Rows that have scores in a region, or failed; ordered by what they see, as in `SIGHTS`."""
    scored = {score.model for score in comparison.scores if region is None or score.region == region}
    every = [
        (result, entry)
        for result in comparison.results
        for entry in result.entries
        if region is None or entry in scored or result.failed
    ]
    return sorted(every, key=lambda row: SIGHTS.index(row[0].entries[row[1]]))


def _printed(comparison: Comparison, result: ModelResult, entry: str, group: str = ALL_SCANS) -> Mapping[str, float]:
    """The paper's values for a row by metric; none for variants, or outside the paper's setting.

    In that setting, our model sees the visible voxels, and autoencoders see everything.
    """
    setting = VISIBLE if result.model == OUR_MODEL else EVERYTHING
    ours = entry == comparison.ours
    if result.entries[entry] != setting or not (result.plain or ours):
        return {}
    if group == ALL_SCANS:
        return TABLE_2.get(result.model, {})
    return {"psnr": TABLE_3[group.lower()]} if result.model == OUR_MODEL and group.lower() in TABLE_3 else {}


def _named(result: ModelResult, entry: str) -> str:
    return f"{result.shown(entry)} (failed)" if result.failed else result.shown(entry)


def _cost(cost: Cost, seeds: int, ours: float) -> tuple[str, ...]:
    return (
        f"{cost.parameters:,}",
        _or_none(cost.latent_elements, ",d"),
        _or_none(cost.compression, ".1f"),
        _or_none(cost.bits, ",.0f"),
        _or_none(cost.bits_per_voxel, ".3g"),
        f"{cost.flops / 1e9:.1f}",
        f"{cost.flops / ours:.2f}" if ours else "–",
        f"{seeds}",
        f"{cost.steps:,}",
        f"{cost.superpatches:,}",
        f"{cost.seconds:,.0f}",
        f"{cost.superpatches / cost.seconds:.1f}" if cost.seconds else "–",
        f"{cost.memory_gib:.2f}",
    )


def _or_none(value: float | int | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _difference(row: Any) -> tuple[str, str]:
    text = cell(row.difference, low=row.low, high=row.high, median=row.median, digits=2, sign="+")
    p = "–" if math.isnan(row.p_holm) else "< 0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
    return f"{text}; {row.larger} of {row.n}", p


def _failures(comparison: Comparison) -> list[str]:
    failed = [result for result in comparison.results if result.failed]
    return [f"{result.shown(result.label)}: failed: {result.failed}" for result in failed]


def _notes(comparison: Comparison) -> list[str]:
    described = dict.fromkeys(score.described for score in comparison.scores if score.described)
    return [*described, *comparison.notes, *_entrant_notes(comparison)]


def _entrant_notes(comparison: Comparison) -> list[str]:
    return [note for result in comparison.results for note in result.notes]


def _n(comparison: Comparison) -> str:
    scans = {score.scan for score in comparison.scores}
    patients = {score.patient for score in comparison.scores}
    return f"{count_of(len(scans), 'scan')} of {count_of(len(patients), 'patient')}"


def _has(comparison: Comparison, region: str) -> bool:
    return any(score.region == region for score in comparison.scores)
