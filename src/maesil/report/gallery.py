"""A figure of the masking strategies, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

VISIBLE, HIDDEN = "#f2c14e", "#22304a"


def mask_gallery(masks: Mapping[str, Bool[np.ndarray, "gd gh gw"]]) -> Figure:
    """A row per strategy, an image per axial plane of tokens, from inferior to superior.

    Args:
        masks: Title to mask (gd, gh, gw), True = masked.
    """
    planes = max(len(mask) for mask in masks.values())
    figure = Figure(figsize=(planes * 0.75 + 0.4, len(masks) * 1.1 + 0.3), layout="constrained", facecolor="white")
    rows: npt.NDArray[np.object_] = figure.subplots(len(masks), planes, squeeze=False)
    for axes_row, (title, mask) in zip(rows, masks.items(), strict=True):
        for axes in axes_row:
            axes.set_axis_off()
        for axes, plane in zip(axes_row, mask, strict=False):
            axes.imshow(plane, cmap=ListedColormap([VISIBLE, HIDDEN]), vmin=0, vmax=1, interpolation="nearest")
        axes_row[0].set_title(title, fontsize=9, loc="left")
    figure.supxlabel("axial planes of tokens, inferior to superior; yellow = visible", fontsize=8)
    return figure
