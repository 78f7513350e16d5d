"""Figures of a comparison: the paper's Figure 3 for all models, PSNR against compression, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maesil.comparison.paper import TABLE_2
from maesil.comparison.result import BITS_PER_NUMBER, EVERYTHING, OUR_MODEL, OURS, VISIBLE, Comparison
from maesil.evaluation.summary import ALL_SCANS
from maesil.models import MODELS
from maesil.models.autoencoder import AutoencoderConfig
from maesil.report.case import VIEWS, Case, cut, pixel_mm
from maesil.report.figures import HIDDEN, edge_letters, grey, heat, view_size_mm
from maesil.training.logs import curve

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6b6b", "#b8a000")
"""Okabe and Ito's palette, safe for colour-blind readers."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PANELS = {
    (VISIBLE, "masked"): "every model sees the visible voxels only",
    (EVERYTHING, "predicted"): "the paper's setting: autoencoders see everything",
}
"""What rows see, and which voxels are scored, to the title of the plot."""
DOTTED: dict[str, Any] = {"lw": 0.8, "ls": (0, (1, 3))}
SHOWN_HU = (-1000.0, 500.0)
ERROR_HU = 400.0


def figure3(cases: Mapping[str, Case], *, error: bool = False) -> Figure:
    """One scan in three views, reconstructed by every model; or the absolute error of each.

    Args:
        cases: Row to its reconstruction of the same scan.
        error: Show the absolute error, white at `ERROR_HU`, instead of the reconstruction.
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
    return name.replace(", ", ",\n")


def compression_figure(comparison: Comparison) -> Figure | None:
    """PSNR against the bits of the bottleneck, by kind of model: seeing only visible voxels, and seeing everything.

    None if no model with a bottleneck was scored.
    """
    drawn = [(panel, points) for panel in PANELS if (points := _points(comparison, *panel))]
    if not drawn:
        return None
    figure = Figure(figsize=(5.25 * len(drawn), 4.4), layout="constrained", facecolor="white")
    grid: npt.NDArray[Any] = figure.subplots(1, len(drawn), squeeze=False)
    for axes, ((sees, region), points) in zip(grid[0], drawn, strict=True):
        _draw(axes, points)
        _lines(axes, comparison, region)
        if sees == EVERYTHING:
            _paper_lines(axes, [kind for kind, *_ in points], ours=comparison.reference == OURS)
        axes.set_title(f"{PANELS[sees, region]}\n{region} voxels", fontsize=10)
    handles = {handle.get_label(): handle for axes in figure.axes for handle in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _bottlenecks() -> list[str]:
    """Kinds of models with a choice of bottleneck."""
    return [name for name, (config, _) in MODELS.items() if issubclass(config, AutoencoderConfig)]


def _style(kind: str) -> tuple[str, str]:
    """Colour and marker of a kind of model; ours has the first."""
    place = (_bottlenecks().index(kind) + 1) % len(COLOURS)
    return COLOURS[place], MARKERS[place]


Point = tuple[str, float, float]


def _points(comparison: Comparison, sees: str, region: str) -> list[Point]:
    """Kind, bits per voxel and PSNR of the autoencoders that see the same."""
    means = _means(comparison, region)
    return [
        (result.model, result.cost.bits_per_voxel, means[entry])
        for result in comparison.results
        if result.cost is not None and result.cost.bits_per_voxel is not None and result.model in _bottlenecks()
        for entry in result.entries
        if result.entries[entry] == sees and entry in means
    ]


def _means(comparison: Comparison, region: str) -> dict[str, float]:
    means = comparison.summaries.query("region == @region and metric == 'psnr'")
    means = means[means["group"] == ALL_SCANS]
    return dict(zip(means["model"], means["mean"], strict=True))


def _draw(axes: Axes, points: Sequence[Point]) -> None:
    for kind in dict.fromkeys(kind for kind, *_ in points):
        (colour, marker), placed = _style(kind), [point for point in points if point[0] == kind]
        bits, values = [x for _, x, _ in placed], [y for *_, y in placed]
        axes.plot(bits, values, linestyle="none", color=colour, marker=marker, label=kind.upper())
    axes.set_xscale("log")
    axes.set_xlabel(f"bits of the latent per voxel ({BITS_PER_NUMBER} for a number that is free)")
    axes.set_ylabel("PSNR (dB), mean over scans")
    axes.grid(alpha=0.25)


def _lines(axes: Axes, comparison: Comparison, region: str) -> None:
    """Lines for our model and the models that learn nothing, which have no choice of bottleneck."""
    means = _means(comparison, region)
    ours = [(comparison.ours, COLOURS[0], 2.0, "-")] if comparison.reference == OURS else []
    for name, colour, width, dashes in (
        *ours,
        ("kriging", "0.35", 1.2, "--"),
        ("interpolation", "0.6", 1.2, "--"),
    ):
        if name in means:
            axes.axhline(means[name], color=colour, lw=width, ls=dashes, label=comparison.shown(name))


def _paper_lines(axes: Axes, kinds: Sequence[str], *, ours: bool) -> None:
    """Dotted lines for the paper's figures, in the colour of the kind of model; for MAESIL's only beside ours."""
    for kind in dict.fromkeys(kind for kind in kinds if kind in TABLE_2):
        axes.axhline(TABLE_2[kind]["psnr"], color=_style(kind)[0], **DOTTED)
    if ours:
        axes.axhline(TABLE_2[OUR_MODEL]["psnr"], color=COLOURS[0], label="as the paper prints it", **DOTTED)


def curves_figure(comparison: Comparison) -> Figure | None:
    """Masked PSNR on validation superpatches during training, every model seeing only visible voxels; None: no logs."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    lines = 0
    for result in comparison.results:
        if result.run is None or result.cost is None or not result.cost.steps:
            continue
        steps, values = curve(result.run / "logs" / "metrics.csv", "val_psnr_masked")
        batch = result.cost.superpatches / result.cost.steps
        if len(steps) > 1:
            style: dict[str, Any] = {"color": COLOURS[lines % len(COLOURS)], "marker": MARKERS[lines % len(MARKERS)]}
            style["label"] = result.shown(result.label)
            axes.plot([step * batch for step in steps], values, markersize=3.5, lw=1.4, **style)
            lines += 1
    if not lines:
        return None
    axes.set_xlabel("superpatches trained on")
    axes.set_ylabel("held-out masked PSNR (dB)")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7.5, frameon=False)
    return figure
