"""Tables II and III, and what each model cost."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, fields

from maesil.comparison.paired import Paired, pair
from maesil.comparison.paper import PAPER_NOTE, TABLE_3, printed
from maesil.comparison.result import EVERYTHING, OWN_MASKS, VISIBLE, Comparison, Cost, Entrant
from maesil.evaluation.protocol import REGION_TEXT
from maesil.evaluation.scores import METRICS
from maesil.evaluation.sheet import Sheet
from maesil.evaluation.summary import ALL_SCANS, MEAN_OF_DATASETS, Summary, summarize
from maesil.evaluation.tables import HEADINGS, cell_text

CELLS = "Cells: mean ± standard deviation over scans [95 % bootstrap interval of the mean]; best of its kind in bold."
DIFFERENCES = (
    "Δ: the row minus ours, mean over scans [95 % bootstrap interval, patients resampled]; p: two-sided Wilcoxon "
    "signed-rank over patients, Holm-corrected; – where fewer than 6 patients could not show any. Rows with masks of "
    "their own are scored on other voxels: neither ranked nor tested."
)


def table2(comparison: Comparison) -> list[Sheet]:
    """Table II, once per region that was scored: the masked voxels first, where all that see only the rest compete."""
    return [_table2(comparison, region) for region in ("masked", "whole", "composite") if _has(comparison, region)]


def _table2(comparison: Comparison, region: str) -> Sheet:
    summaries = {
        (row.model, row.metric): row
        for row in summarize(comparison.scores)
        if row.group == ALL_SCANS and row.region == region
    }
    compared = [row for row in _paired(comparison) if row.region == region]
    differences = {(row.entry, row.metric): row for row in compared}
    metrics = [metric for metric in METRICS if any(key[1] == metric for key in summaries)]
    rows, values = [], []
    for entrant, entry in _rows(comparison):
        sees_all = entry in entrant.sees_all
        found = [summaries.get((entry, metric)) for metric in metrics]
        cells = [cell_text(row, row.n if row else 0) for row in found]
        difference = None if entry in entrant.other_masks else differences.get((entry, "psnr"))
        compares = sees_all or entrant.model == "maesil"
        paper = [
            printed(entrant.model, metric, compares=compares and entry == entrant.entries[0]) for metric in metrics
        ]
        sees = entrant.sees(entry)
        rows.append((_named(entrant, entry), sees, *cells, *_difference(difference), *paper))
        values.append((sees, [row.mean if row else math.nan for row in found]))
    header = ("model", "sees", *(" ".join(HEADINGS[metric]) for metric in metrics), "Δ PSNR", "p")
    header += tuple(f"paper: {HEADINGS[metric][0]}" for metric in metrics)
    title = f"Table II, {region} voxels ({_n(comparison)})"
    notes = (REGION_TEXT[region] + ".", CELLS, DIFFERENCES, PAPER_NOTE, *_failures(comparison), *_notes(comparison))
    return Sheet(header, rows, notes, 2, _best(values, metrics, 2), title)


def table3(comparison: Comparison) -> list[Sheet]:
    """Table III: PSNR by dataset, every model, in the regions that were scored."""
    return [_table3(comparison, region) for region in ("masked", "whole") if _has(comparison, region)]


def _table3(comparison: Comparison, region: str) -> Sheet:
    found = {
        (row.model, row.group): row
        for row in summarize(comparison.scores)
        if row.region == region and row.metric == "psnr"
    }
    datasets = list(dict.fromkeys(score.dataset for score in comparison.scores))
    groups = [*datasets, ALL_SCANS, MEAN_OF_DATASETS] if len(datasets) > 1 else [ALL_SCANS]
    rows, values = [], []
    for entrant, entry in _rows(comparison):
        cells = [found.get((entry, group)) for group in groups]
        sees = entrant.sees(entry)
        rows.append((_named(entrant, entry), sees, *(cell_text(row, row.n if row else 0) for row in cells)))
        values.append((sees, [row.mean if row else math.nan for row in cells]))
    paper = [f"{TABLE_3[group.lower()]:.2f}" if group.lower() in TABLE_3 else "–" for group in groups]
    if any(cell != "–" for cell in paper):
        rows.append(("MAESIL, as the paper prints it", VISIBLE, *paper))
    header = ("model", "sees", *(f"{group} (n={_count(found, group)})" for group in groups))
    best = _best(values, ["psnr"] * len(groups), 2)
    return Sheet(
        header, rows, (CELLS, PAPER_NOTE, *_failures(comparison)), 2, best, f"Table III, PSNR in dB, {region} voxels"
    )


def cost_table(comparison: Comparison) -> Sheet:
    """Parameters, bottleneck and what the training took."""
    header = (
        "model", "parameters", "latent elements", "compression", "latent bits", "GFLOP per superpatch", "steps",
        "superpatches", "seconds", "superpatches/s", "peak GiB",
    )  # fmt: skip
    rows = [
        (_named(entrant, entrant.label), *(_cost(entrant.cost) if entrant.cost else ("–",) * (len(header) - 1)))
        for entrant in comparison.entrants
        if entrant.cost or entrant.failed
    ]
    notes = (
        f"Budget: {comparison.budget}.",
        "Compression: voxels of a superpatch per latent element. Latent bits: where a codebook names them. FLOPs: of "
        "a training step, forwards and backwards, as PyTorch counts them. Seconds: of training steps, on a machine "
        "that may have been shared.",
        *_failures(comparison),
    )
    return Sheet(header, rows, notes, 1, title="What each model is, and took")


def paired_csv(comparison: Comparison) -> str:
    """Every difference to ours, unrounded."""
    return _csv([field.name for field in fields(Paired)], [astuple(row) for row in _paired(comparison)])


def summary_csv(comparison: Comparison) -> str:
    """Every mean behind Tables II and III, unrounded."""
    return _csv([field.name for field in fields(Summary)], [astuple(row) for row in summarize(comparison.scores)])


def cost_csv(comparison: Comparison) -> str:
    """Every cost, unrounded, and why a model has none."""
    names = [field.name for field in fields(Cost)]
    rows = [
        (
            entrant.label,
            entrant.model,
            entrant.failed or "",
            *(astuple(entrant.cost) if entrant.cost else [""] * len(names)),
        )
        for entrant in comparison.entrants
    ]
    return _csv(["label", "model", "failed", *names], rows)


def _rows(comparison: Comparison) -> list[tuple[Entrant, str]]:
    """Rows in order: those that see the visible voxels only, those with masks of their own, those that see all."""
    every = [(entrant, entry) for entrant in comparison.entrants for entry in entrant.entries]
    order = (VISIBLE, OWN_MASKS, EVERYTHING)
    return sorted(every, key=lambda row: order.index(row[0].sees(row[1])))


def _paired(comparison: Comparison) -> list[Paired]:
    others = [entry for entrant in comparison.entrants for entry in entrant.other_masks]
    return pair(comparison.scores, comparison.ours, others)


def _named(entrant: Entrant, entry: str) -> str:
    return f"{entry} (failed)" if entrant.failed else entry


def _cost(cost: Cost) -> tuple[str, ...]:
    return (
        f"{cost.parameters:,}",
        f"{cost.latent_elements:,}",
        f"{cost.compression:.1f}",
        "–" if cost.latent_bits is None else f"{cost.latent_bits:,.0f}",
        f"{cost.flops / 1e9:.1f}",
        f"{cost.steps:,}",
        f"{cost.superpatches:,}",
        f"{cost.seconds:,.0f}",
        f"{cost.superpatches / cost.seconds:.1f}" if cost.seconds else "–",
        f"{cost.memory_gib:.2f}",
    )


def _difference(row: Paired | None) -> tuple[str, str]:
    if row is None:
        return "–", "–"
    interval = "" if math.isnan(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]"
    p = "–" if math.isnan(row.p_holm) else "< 0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
    return f"{row.difference:+.2f}{interval}", p


def _best(
    values: Sequence[tuple[str, Sequence[float]]], metrics: Sequence[str], first: int
) -> frozenset[tuple[int, int]]:
    """Cells with the best mean among rows that see the same."""
    best = set()
    for sees in {group for group, _ in values} - {OWN_MASKS}:
        for column, metric in enumerate(metrics):
            sign = -1.0 if HEADINGS[metric][1] == "↓" else 1.0
            rivals = [(sign * row[column], at) for at, (group, row) in enumerate(values) if group == sees]
            rivals = [rival for rival in rivals if not math.isnan(rival[0])]
            if rivals:
                best.add((max(rivals)[1], first + column))
    return frozenset(best)


def _failures(comparison: Comparison) -> list[str]:
    return [f"{entrant.label}: failed: {entrant.failed}" for entrant in comparison.entrants if entrant.failed]


def _notes(comparison: Comparison) -> list[str]:
    described = dict.fromkeys(score.described for score in comparison.scores if score.described)
    return [*described, *comparison.notes]


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
