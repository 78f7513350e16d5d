"""Tables II and III, and the table of costs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields

from maesil.comparison.paired import Paired, pair
from maesil.comparison.paper import PAPER_NOTE, TABLE_2, TABLE_3
from maesil.comparison.result import BITS_PER_NUMBER, EVERYTHING, RANKED, SIGHTS, VISIBLE, Comparison, Cost, ModelResult
from maesil.evaluation.measures import METRICS
from maesil.evaluation.protocol import REGION_TEXT, REGIONS
from maesil.evaluation.sheet import Sheet
from maesil.evaluation.summary import ALL_SCANS, MEAN_OF_DATASETS, Summary, summarize
from maesil.evaluation.tables import CELL, cell_text, metric_notes, shown_metrics

CELLS = f"Cells: {CELL}; best of its kind in bold."
DIFFERENCES = (
    "Δ PSNR: the row minus ours, mean over scans [95 % bootstrap interval, patients resampled]; "
    "median; scans on which the row is ahead. p: two-sided Wilcoxon signed-rank test over patients, Holm-corrected; – "
    "with fewer than 6 patients, where p is never below 0.05. Rows with their own masks are scored on other voxels, "
    "and rows with hints are given information about the hidden ones: neither ranked nor tested."
)


def table2(comparison: Comparison) -> list[Sheet]:
    """Table II, once per region that was scored; first for masked voxels, on which models that do not see them rank."""
    return [_table2(comparison, region) for region in REGIONS if _has(comparison, region)]


def _table2(comparison: Comparison, region: str) -> Sheet:
    summaries = {
        (row.model, row.metric): row
        for row in summarize(comparison.scores)
        if row.group == ALL_SCANS and row.region == region
    }
    differences = {row.entry: row for row in _paired(comparison) if (row.region, row.metric) == (region, "psnr")}
    metrics = shown_metrics(list(summaries.values()))
    quotable = [metric for metric in metrics if metric in TABLE_2["maesil"]]
    rows, values = [], []
    for result, entry in _rows(comparison, region):
        sees, quoted = result.entries[entry], _printed(comparison, result, entry)
        found = [summaries.get((entry, metric)) for metric in metrics]
        cells = [cell_text(row, row.n if row else 0) for row in found]
        paper = [f"{quoted[metric]:.2f}" if metric in quoted else "–" for metric in quotable]
        rows.append((_named(result, entry), sees, *cells, *_difference(differences.get(entry)), *paper))
        values.append((sees, [row.mean if row else math.nan for row in found]))
    header = ("model", "sees", *(METRICS[metric].title for metric in metrics), "Δ PSNR", "p")
    header += tuple(f"paper: {METRICS[metric].heading}" for metric in quotable)
    title = f"Table II, {region} voxels ({_n(comparison)})"
    about = metric_notes(summarize(comparison.scores))
    notes = (REGION_TEXT[region] + ".", CELLS, DIFFERENCES, PAPER_NOTE, *_failures(comparison), *about)
    notes = (*notes, *_notes(comparison))
    return Sheet(header, rows, notes, 2, _best(values, metrics, 2), title)


def table3(comparison: Comparison) -> list[Sheet]:
    """Table III: PSNR by dataset, every model, in the regions that were scored."""
    return [_table3(comparison, region) for region in REGIONS if _has(comparison, region)]


def _table3(comparison: Comparison, region: str) -> Sheet:
    found = {
        (row.model, row.group): row
        for row in summarize(comparison.scores)
        if row.region == region and row.metric == "psnr"
    }
    datasets = list(dict.fromkeys(score.dataset for score in comparison.scores))
    groups = [*datasets, ALL_SCANS, MEAN_OF_DATASETS] if len(datasets) > 1 else [ALL_SCANS]
    rows, values = [], []
    for result, entry in _rows(comparison, region):
        cells = [found.get((entry, group)) for group in groups]
        sees = result.entries[entry]
        rows.append((_named(result, entry), sees, *(cell_text(row, row.n if row else 0) for row in cells)))
        values.append((sees, [row.mean if row else math.nan for row in cells]))
    paper = [f"{TABLE_3[group.lower()]:.2f}" if group.lower() in TABLE_3 else "–" for group in groups]
    if any(cell != "–" for cell in paper):
        rows.append(("MAESIL, as the paper prints it", VISIBLE, *paper))
    header = ("model", "sees", *(f"{group} (n={_count(found, group)})" for group in groups))
    best = _best(values, ["psnr"] * len(groups), 2)
    notes = (CELLS, PAPER_NOTE, *_failures(comparison), *_entrant_notes(comparison))
    return Sheet(header, rows, notes, 2, best, f"Table III, PSNR in dB, {region} voxels")


def cost_table(comparison: Comparison) -> Sheet:
    """The table of parameters, bottlenecks and training costs."""
    header = (
        "model", "parameters", "latent elements", "compression", "latent bits", "bits per voxel",
        "GFLOP per superpatch", "of ours", "seeds", "steps", "superpatches", "seconds", "superpatches/s", "peak GiB",
    )  # fmt: skip
    ours = next(
        (result.cost.flops for result in comparison.results if result.cost and result.label == comparison.ours),
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
    notes = (
        f"Budget: {comparison.budget}.",
        f"Compression: voxels of a superpatch per latent element. Latent bits: those that encode codes, or "
        f"{BITS_PER_NUMBER} for each free number. FLOPs: of a training step, forward and backward, as PyTorch counts "
        "them; of ours: as a multiple of our row's. Superpatches: over all devices. Seconds: time of training steps, "
        "the mean over seeds, on a machine that may have been shared. Peak GiB: memory of the training process.",
        *_failures(comparison),
    )
    return Sheet(header, rows, notes, 1, title="What each model is, and took")


def paired_csv(comparison: Comparison) -> str:
    """Every difference from ours as CSV, unrounded."""
    return _csv([field.name for field in fields(Paired)], [astuple(row) for row in _paired(comparison)])


def table2_csv(comparison: Comparison) -> str:
    """Every mean over all scans as CSV, unrounded, with the paper's value; and why a model has none."""
    return _means_csv(comparison, [row for row in summarize(comparison.scores) if row.group == ALL_SCANS])


def table3_csv(comparison: Comparison) -> str:
    """Every mean by dataset as CSV, unrounded, with the paper's value; and why a model has none."""
    return _means_csv(comparison, summarize(comparison.scores))


def _means_csv(comparison: Comparison, means: Sequence[Summary]) -> str:
    names = [field.name for field in fields(Summary)]
    nothing: dict[str, object] = dict.fromkeys(names)
    rows: list[Sequence[object]] = []
    for result, entry in _rows(comparison):
        sees, found = result.entries[entry], [row for row in means if row.model == entry]
        for row in found:
            quoted = _printed(comparison, result, entry, row.group).get(row.metric)
            rows.append((*astuple(row), sees, quoted, None))
        if not found:
            rows.append((*(nothing | {"model": entry}).values(), sees, None, result.failed))
    return _csv([*names, "sees", "paper", "failed"], rows)


def cost_csv(comparison: Comparison) -> str:
    """Every cost as CSV, unrounded; and why a model has none."""
    names = [field.name for field in fields(Cost)]
    rows = [
        (
            result.label,
            result.model,
            result.failed or "",
            *(astuple(result.cost) if result.cost else [""] * len(names)),
        )
        for result in comparison.results
    ]
    return _csv(["label", "model", "failed", *names], rows)


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


def _paired(comparison: Comparison) -> list[Paired]:
    """Ranked rows compared with ours; none if ours is not ranked itself."""
    sees = comparison.sees
    unranked = [entry for entry in sees if sees[entry] not in RANKED]
    return [] if comparison.ours in unranked else pair(comparison.scores, comparison.ours, unranked)


def _printed(comparison: Comparison, result: ModelResult, entry: str, group: str = ALL_SCANS) -> Mapping[str, float]:
    """The paper's values for a row by metric; none for variants, or outside the paper's setting.

    In that setting, our model sees the visible voxels, and autoencoders see everything.
    """
    setting = VISIBLE if result.model == "maesil" else EVERYTHING
    ours = entry == comparison.ours
    if result.entries[entry] != setting or not (result.plain or ours):
        return {}
    if group == ALL_SCANS:
        return TABLE_2.get(result.model, {})
    return {"psnr": TABLE_3[group.lower()]} if result.model == "maesil" and group.lower() in TABLE_3 else {}


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


def _difference(row: Paired | None) -> tuple[str, str]:
    if row is None:
        return "–", "–"
    interval = "" if math.isnan(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]"
    ahead = f"; {row.median:+.2f}; {row.larger} of {row.n}"
    p = "–" if math.isnan(row.p_holm) else "< 0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
    return f"{row.difference:+.2f}{interval}{ahead}", p


def _best(
    values: Sequence[tuple[str, Sequence[float]]], metrics: Sequence[str], first: int
) -> frozenset[tuple[int, int]]:
    """Cells with the best mean among rows that see the same."""
    best = set()
    for sees in RANKED:
        for column, metric in enumerate(metrics):
            rivals = [
                (METRICS[metric].goodness(row[column]), at) for at, (group, row) in enumerate(values) if group == sees
            ]
            rivals = [rival for rival in rivals if not math.isnan(rival[0])]
            if rivals:
                best.add((max(rivals)[1], first + column))
    return frozenset(best)


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
    return f"{_many(len(scans), 'scan')} of {_many(len(patients), 'patient')}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _has(comparison: Comparison, region: str) -> bool:
    return any(score.region == region for score in comparison.scores)


def _count(found: object, group: str) -> int:
    assert isinstance(found, dict)
    return max((row.n for (_, other), row in found.items() if other == group), default=0)


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(
            ["" if value is None or (isinstance(value, float) and math.isnan(value)) else value for value in row]
        )
    return stream.getvalue()
