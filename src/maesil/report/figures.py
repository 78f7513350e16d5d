"""Figures for papers and READMEs: the paper's Figure 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from maesil.errors import ConfigError
from maesil.evaluation.protocol import View
from maesil.files import replacing
from maesil.report.case import EDGES, VIEWS, Case, cut, pixel_mm

PICTURES = (".png", ".svg", ".pdf")
PANELS = ("original", "masked input", "reconstruction", "absolute error")
HIDDEN = (0.13, 0.17, 0.25)
"""Colour of masked voxels."""
OUTLINE = (withStroke(linewidth=2, foreground="black"),)
"""Edge of letters that lie on an image."""


def figure3(case: Case, *, shown_hu: tuple[float, float] = (-1000.0, 500.0), error_hu: float = 400.0) -> Figure:
    """Original, masked input, reconstruction and absolute error in three views, with the aspect ratio in mm.

    Args:
        case: The scan.
        shown_hu: HU shown as black and as white.
        error_hu: Absolute error shown as white.
    """
    chosen = case.best_slices()
    heights = [view_size_mm(case, view)[0] for view in VIEWS]
    width = max(view_size_mm(case, view)[1] for view in VIEWS)
    figure = Figure(figsize=(11, 11 / 4 * sum(heights) / width + 0.5), layout="constrained", facecolor="white")
    grid: npt.NDArray[Any] = figure.subplots(3, 4, height_ratios=heights, squeeze=False)
    for row, view in enumerate(VIEWS):
        images = panels(case, view, chosen[view], shown_hu, error_hu)
        for column, image in enumerate(images):
            axes: Axes = grid[row, column]
            height, width_mm = pixel_mm(view, case.spacing_mm)
            axes.imshow(image, aspect=height / width_mm, interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(PANELS[column], fontsize=10)
        edge_letters(grid[row, 0], view)
    figure.suptitle(
        f"{case.scan_id}   HU [{shown_hu[0]:g}, {shown_hu[1]:g}], error [0, {error_hu:g}]", fontsize=9, color="0.4"
    )
    return figure


def panels(
    case: Case, view: View, index: int, shown_hu: tuple[float, float], error_hu: float
) -> list[npt.NDArray[np.float64]]:
    """The four images of a view as RGB in [0, 1]."""
    truth, rebuilt = (cut(volume, view, index) for volume in (case.truth_hu, case.reconstruction_hu))
    hidden = cut(case.mask, view, index).astype(bool)
    shades = [grey(image, shown_hu) for image in (truth, truth, rebuilt)]
    shades[1] = np.where(hidden[..., None], np.array(HIDDEN), shades[1])
    error = np.clip(np.abs(np.subtract(rebuilt, truth, dtype=np.float64)) / error_hu, 0, 1)
    return [*shades, heat(error)]


def heat(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Colour map from black through red and orange to white, for shares in [0, 1]; the page's script has a copy."""
    return np.stack(
        [np.clip(share * 2.2, 0, 1), np.clip(share * 2.2 - 0.6, 0, 1), np.clip(share * 3 - 2, 0, 1)], axis=-1
    )


def grey(image: npt.NDArray[np.generic], shown_hu: tuple[float, float]) -> npt.NDArray[np.float64]:
    """HU as grey RGB in [0, 1], black and white at `shown_hu`."""
    low, high = shown_hu
    level = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    return np.repeat(level[..., None], 3, axis=-1)


def view_size_mm(case: Case, view: View) -> tuple[float, float]:
    """Height and width of a view in mm."""
    rows, columns = cut(case.truth_hu, view, 0).shape
    height, width = pixel_mm(view, case.spacing_mm)
    return rows * height, columns * width


def edge_letters(axes: Axes, view: View) -> None:
    """Writes the radiological letters at a view's edges."""
    places = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.95), (0.5, 0.05))
    for letter, (x, y) in zip(EDGES[view], places, strict=True):
        axes.text(
            x, y, letter, transform=axes.transAxes, color="#7fd4ff", fontsize=9, ha="center", va="center",
            path_effects=OUTLINE,
        )  # fmt: skip


def save_figure(figure: Figure, path: Path, dpi: int = 110, *, made_by: str | None = None) -> None:
    """Writes a figure in the format of the file's suffix; needs no display.

    Args:
        figure: The figure.
        path: The file.
        dpi: Pixels per inch, of a PNG.
        made_by: Command that made it, as the title in the file, by which `is_figure_of` knows it; None: no title.

    Raises:
        ConfigError: The suffix is not an image format, or the file cannot be written.
    """
    if path.suffix.lower() not in PICTURES:
        fix = f"use one of: {', '.join(PICTURES)}"
        raise ConfigError(f"figures can't be written as '{path.suffix}'", where=path, fix=fix)
    FigureCanvasAgg(figure)
    with replacing(path) as fresh:
        figure.savefig(fresh, dpi=dpi, metadata=None if made_by is None else {"Title": made_by})


def is_figure_of(made_by: str, path: Path) -> bool:
    """Whether `save_figure` wrote a file, with this command as its title."""
    return made_by.encode() in path.read_bytes()
