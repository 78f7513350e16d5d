"""The self-contained HTML page of a run: opens from disk, needs no network."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from PIL import Image

from maesil.evaluation.sheet import Sheet
from maesil.files import write_text
from maesil.report.case import EDGES, VIEWS, Case, pixel_mm

MAX_VOXELS = 12_000_000
"""Larger scans are subsampled to every second or third voxel, so that the page stays small; the page says so."""


@dataclass(frozen=True)
class Curve:
    """A line of the training plot.

    Attributes:
        name: Name in the legend.
        steps: Optimiser steps.
        values: One value per step.
        unit: Unit of the values.
    """

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    unit: str = ""


@dataclass(frozen=True)
class Page:
    """The contents of a page.

    Attributes:
        title: The heading.
        subtitle: The run in one line.
        caution: Warning about what the scores do not show; may be empty.
        facts: Section to name to value.
        sheet: The score table; its best cells are marked.
        curves: Curves of the training plots.
        cases: Scans to show.
        commands: Commands that reproduce the page.
    """

    title: str
    subtitle: str
    caution: str
    facts: Mapping[str, Mapping[str, str]]
    sheet: Sheet
    curves: Sequence[Curve]
    cases: Sequence[Case]
    commands: Sequence[str] = ()


def write_page(path: Path, page: Page) -> Path:
    """Writes the page atomically.

    Returns:
        Path of the page.
    """
    folder = resources.files("maesil.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    html = template.render(
        page=page,
        style=(folder / "page.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
        plots=[plot(curve) for curve in page.curves if len(curve.steps) > 1],
        views=VIEWS,
        edges=EDGES,
        panels=("original", "masked input", "reconstruction", "absolute error"),
        data=json.dumps([encode_case(case) for case in page.cases]).replace("<", "\\u003c"),
    )
    return write_text(path, html)


def is_page(path: Path) -> bool:
    """Whether a file is such a page, of an earlier version, too: it has the data of its scans, and names the method."""
    text = path.read_text(encoding="utf-8")
    return '<script type="application/json" id="cases">' in text and "https://arxiv.org/abs/2604.00514" in text


def encode_case(case: Case) -> dict[str, Any]:
    """Encodes a case for the page's script: voxels as 8-bit sprites over the network's window."""
    stride = max(1, math.ceil((case.truth_hu.size / MAX_VOXELS) ** (1 / 3)))
    thin = (slice(None, None, stride),) * 3
    window = case.window

    def grey(volume: npt.NDArray[Any]) -> str:
        return sprite(np.rint(window.normalize(volume[thin].astype(np.float32)) * 255).astype(np.uint8))

    spacing = tuple(step * stride for step in case.spacing_mm)
    flags = case.mask[thin].astype(np.uint8) * 255
    held = case.held_out[thin].astype(np.uint8) * 255
    return {
        "id": case.scan_id,
        "shape": [len(range(0, size, stride)) for size in case.truth_hu.shape],
        "stride": stride,
        "spacing": spacing,
        "window": [window.low_hu, window.high_hu],
        "truth": grey(case.truth_hu),
        "rebuilt": grey(case.reconstruction_hu),
        "mask": sprite(flags),
        "held": None if case.held_out.all() else sprite(held),
        "start": {view: index // stride for view, index in case.best_slices().items()},
        "pixel": {view: pixel_mm(view, case.spacing_mm) for view in VIEWS},
    }


def sprite(volume: npt.NDArray[np.uint8]) -> str:
    """Axial slices side by side in one PNG, `sprite_columns` per row, as a data URL."""
    depth, height, width = volume.shape
    columns = sprite_columns(depth)
    rows = -(-depth // columns)
    sheet = np.zeros((rows * height, columns * width), dtype=np.uint8)
    for index, plane in enumerate(volume):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = plane
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def sprite_columns(depth: int) -> int:
    """Slices per row of a sprite; the page's script has the same formula."""
    return math.ceil(math.sqrt(depth))


def plot(curve: Curve, width: int = 460, height: int = 190) -> dict[str, Any]:
    """Converts a curve to SVG coordinates, axes and ticks."""
    left, right, top, bottom = 46, 12, 12, 28
    low, high = min(curve.values), max(curve.values)
    high = high if high > low else low + 1.0
    span = max(curve.steps[-1] - curve.steps[0], 1)

    def x(step: int) -> float:
        return round(left + (step - curve.steps[0]) / span * (width - left - right), 1)

    def y(value: float) -> float:
        return round(top + (high - value) / (high - low) * (height - top - bottom), 1)

    points = " ".join(f"{x(step)},{y(value)}" for step, value in zip(curve.steps, curve.values, strict=True))
    ticks = [low + (high - low) * share for share in (0, 0.5, 1)]
    return {
        "name": curve.name,
        "unit": curve.unit,
        "width": width,
        "height": height,
        "points": points,
        "y_ticks": [(y(value), f"{value:.3g}") for value in ticks],
        "x_ticks": [(x(step), f"{step:g}") for step in (curve.steps[0], curve.steps[-1])],
        "left": left,
        "base": height - bottom,
        "end": width - right,
        "last": f"{curve.values[-1]:.4g}",
    }
