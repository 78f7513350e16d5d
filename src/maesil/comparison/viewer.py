"""Encodes slices of every model's reconstructions, small enough for one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from maesil.evaluation.protocol import View
from maesil.report.case import EDGES, VIEWS, Case, cut, pixel_mm

SLICES = 9
"""Slices per view; whole volumes of every model would make a page of hundreds of megabytes."""
LEVELS = 64
"""Grey levels over the window: 30 HU per step, and a third of the size of 256 levels."""


def encode_cases(cases: Mapping[str, Sequence[Case]]) -> list[dict[str, Any]]:
    """Encodes scans for the page's script: per view, slices of scan, masks and reconstructions, side by side as PNG.

    Args:
        cases: Row to the reconstructed scans, the same ones in the same order in every row.
    """
    encoded: list[dict[str, Any]] = []
    for name in cases:
        for number, case in enumerate(cases[name]):
            if number == len(encoded):
                encoded.append(_scan(case))
            _add(encoded[number], name, case)
    return encoded


def _scan(case: Case) -> dict[str, Any]:
    window = case.window
    views = {view: _view(case, view) for view in VIEWS}
    return {"id": case.scan_id, "dataset": case.dataset, "window": [window.low_hu, window.high_hu], "views": views}


def _view(case: Case, view: View) -> dict[str, Any]:
    chosen = chosen_slices(case, view)
    rows, columns = cut(case.truth_hu, view, 0).shape
    step = case.spacing_mm[VIEWS.index(view)]
    return {
        "rows": rows,
        "columns": columns,
        "pixel": pixel_mm(view, case.spacing_mm),
        "edges": EDGES[view],
        "slices": chosen,
        "labels": [f"slice {index + 1}, {index * step:.0f} mm" for index in chosen],
        "truth": _strip([_levels(case, cut(case.truth_hu, view, index)) for index in chosen]),
        "masks": [],
        "models": {},
    }


def _add(scan: dict[str, Any], name: str, case: Case) -> None:
    for view in VIEWS:
        data = scan["views"][view]
        rebuilt = [_levels(case, cut(case.reconstruction_hu, view, index)) for index in data["slices"]]
        mask = _strip([cut(case.mask, view, index).astype(np.uint8) * 255 for index in data["slices"]])
        if mask not in data["masks"]:
            data["masks"].append(mask)
        data["models"][name] = {"image": _strip(rebuilt), "mask": data["masks"].index(mask)}


def chosen_slices(case: Case, view: View) -> list[int]:
    """Indices of a view's slices, spread evenly over those with tissue."""
    axis = VIEWS.index(view)
    others = tuple(other for other in range(3) if other != axis)
    tissue = np.flatnonzero((case.held_out & (case.truth_hu > -500)).any(axis=others))
    first, last = (int(tissue[0]), int(tissue[-1])) if len(tissue) else (0, case.truth_hu.shape[axis] - 1)
    spread = np.linspace(first, last, SLICES + 2)[1:-1]
    return sorted({round(float(place)) for place in spread})


def _levels(case: Case, image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    share = case.window.normalize(image.astype(np.float32))
    return (np.rint(share * (LEVELS - 1)) * (255 // (LEVELS - 1))).astype(np.uint8)


def _strip(images: Sequence[npt.NDArray[np.uint8]]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(images, axis=1)).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
