"""Pictures of a comparison: the paper's Figure 3 for all models, PSNR against compression, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maesil.comparison.paper import TABLE_2
from maesil.comparison.result import Comparison, Entrant
from maesil.evaluation.summary import ALL_SCANS, summarize
from maesil.report.case import VIEWS, Case, cut, pixel_mm
from maesil.report.figures import HIDDEN, edge_letters, grey, heat, view_size_mm
from maesil.training.logs import curve

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6b6b", "#b8a000")
"""Okabe and Ito's, told apart by colour-blind eyes too."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SHOWN_HU = (-1000.0, 500.0)
ERROR_HU = 400.0


def figure3(cases: Mapping[str, Case], *, error: bool = False) -> Figure:
    """One scan, rebuilt by every model, in three views; or the absolute error of each.

    Args:
        cases: Row to the same scan, rebuilt by it.
        error: Show the absolute error, white at `ERROR_HU`, in place of the reconstruction.
    """
    first = next(iter(cases.values()))
    rows: list[tuple[str, Case, str]] = [("original", first, "truth"), ("masked input", first, "input")]
    rows += [(name, case, "error" if error else "rebuilt") for name, case in cases.items()]
    sizes = [view_size_mm(first, view) for view in VIEWS]
    tallest, widths = max(height for height, _ in sizes), [width for _, width in sizes]
    size = (2.1 * sum(widths) / tallest + 1.6, 2.1 * len(rows))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid: npt.NDArray[Any] = figure.subplots(len(rows), 3, width_ratios=widths, squeeze=False)
    chosen = first.best_slices()
    for line, (name, case, what) in enumerate(rows):
        for column, view in enumerate(VIEWS):
            axes: Axes = grid[line, column]
            height, width = pixel_mm(view, case.spacing_mm)
            axes.imshow(_image(case, view, chosen[view], what), aspect=height / width, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if line == 0:
                axes.set_title(view, fontsize=10)
                edge_letters(axes, view)
        grid[line, 0].set_ylabel(_wrapped(name), fontsize=8, rotation=0, ha="right", va="center")
    scale = f"absolute error [0, {ERROR_HU:g}]" if error else f"HU [{SHOWN_HU[0]:g}, {SHOWN_HU[1]:g}]"
    figure.suptitle(f"{first.scan_id} ({first.dataset}), {scale}", fontsize=9, color="0.35")
    return figure


def _image(case: Case, view: Any, index: int, what: str) -> npt.NDArray[np.float64]:
    truth, rebuilt = (cut(volume, view, index) for volume in (case.truth_hu, case.reconstruction_hu))
    if what == "error":
        return heat(np.clip(np.abs(np.subtract(rebuilt, truth, dtype=np.float64)) / ERROR_HU, 0, 1))
    shown = grey(rebuilt if what == "rebuilt" else truth, SHOWN_HU)
    if what != "input":
        return shown
    return np.where(cut(case.mask, view, index).astype(bool)[..., None], np.array(HIDDEN), shown)


def _wrapped(name: str) -> str:
    return name.replace(", ", ",\n").replace(":", ":\n")


def compression_figure(comparison: Comparison) -> Figure | None:
    """PSNR against compression, by kind of model: seeing visible voxels only, and seeing everything as in the paper.

    None where no model with a bottleneck was scored.
    """
    points = _points(comparison)
    if not points:
        return None
    figure = Figure(figsize=(10.5, 4.4), layout="constrained", facecolor="white")
    panels: npt.NDArray[Any] = figure.subplots(1, 2, squeeze=False)
    titles = ("every model sees the visible voxels only", "the paper's setting: autoencoders see everything")
    for axes, region, whole_input, title in zip(panels[0], ("masked", "whole"), (False, True), titles, strict=True):
        _panel(axes, comparison, [point for point in points if point[3] == whole_input], region)
        axes.set_title(f"{title}\n{region} voxels", fontsize=10)
    return figure


Point = tuple[Entrant, str, float, bool]


def _points(comparison: Comparison) -> list[Point]:
    """Entrant, row, compression, whether it sees everything."""
    scored = {score.model for score in comparison.scores}
    return [
        (entrant, entry, entrant.cost.compression, entry in entrant.sees_all)
        for entrant in comparison.entrants
        if entrant.cost is not None and entrant.failed is None
        for entry in entrant.entries
        if entrant.model in ("ae", "vae", "vqvae") and entry in scored
    ]


def _panel(axes: Axes, comparison: Comparison, points: Sequence[Point], region: str) -> None:
    means = {
        row.model: row.mean
        for row in summarize(comparison.scores)
        if (row.group, row.region, row.metric) == (ALL_SCANS, region, "psnr")
    }
    for place, kind in enumerate(dict.fromkeys(entrant.model for entrant, *_ in points)):
        line = sorted((x, means[entry]) for entrant, entry, x, _ in points if entrant.model == kind and entry in means)
        style: dict[str, Any] = {"color": COLOURS[place + 1], "marker": MARKERS[place + 1]}
        axes.plot([x for x, _ in line], [y for _, y in line], linestyle="none", label=kind.upper(), **style)
        if points[0][3] and kind in TABLE_2:
            axes.axhline(TABLE_2[kind]["psnr"], color=style["color"], lw=0.8, ls=(0, (1, 3)))
    for place, (name, colour) in enumerate(
        ((comparison.ours, COLOURS[0]), ("kriging", "0.35"), ("interpolation", "0.6"))
    ):
        if name in means:
            axes.axhline(
                means[name], color=colour, lw=2.0 if place == 0 else 1.2, ls="-" if place == 0 else "--", label=name
            )
    if points[0][3]:
        axes.axhline(
            TABLE_2["maesil"]["psnr"], color=COLOURS[0], lw=0.8, ls=(0, (1, 3)), label="as the paper prints it"
        )
    axes.set_xscale("log")
    axes.set_xlabel("compression: voxels per latent element")
    axes.set_ylabel("PSNR (dB), mean over scans")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


def curves_figure(comparison: Comparison) -> Figure | None:
    """Masked PSNR on validation superpatches while training, every model on visible voxels only; None without logs."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    lines = 0
    for entrant in comparison.entrants:
        if entrant.run is None or entrant.cost is None or not entrant.cost.steps:
            continue
        steps, values = curve(entrant.run / "logs" / "metrics.csv", "val_psnr_masked")
        batch = entrant.cost.superpatches / entrant.cost.steps
        if len(steps) > 1:
            style: dict[str, Any] = {"color": COLOURS[lines % len(COLOURS)], "marker": MARKERS[lines % len(MARKERS)]}
            axes.plot([step * batch for step in steps], values, markersize=3.5, lw=1.4, label=entrant.label, **style)
            lines += 1
    if not lines:
        return None
    axes.set_xlabel("superpatches trained on")
    axes.set_ylabel("held-out masked PSNR (dB)")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7.5, frameon=False)
    return figure
