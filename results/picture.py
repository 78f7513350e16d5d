"""Draws one scan in three views: original, masked input, several reconstructions, and the error of one of them.

    python results/picture.py --run maesil=RUN --run "plain network"=RUN --store STORE --scan ID --out PICTURE.png

The error is that of the first run; kriging, which learns nothing, is drawn too. All see one mask of the whole scan. The
slices are those with the most tissue; the axial one, among planes that are not hidden as a whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from maesil.evaluation.evaluate import compared_models
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.runner import held_out, rebuild_region, under
from maesil.models.contract import Reconstructor
from maesil.report.case import VIEWS, Case, cut, pixel_mm
from maesil.report.figures import HIDDEN, edge_letters, grey, heat, save_figure, view_size_mm
from maesil.runs.load import LoadedModel, load_run
from maesil.sampling.regions import regions_of
from maesil.store.scanstore import ScanStore

SHOWN_HU, ERROR_HU = (-1000.0, 500.0), 400.0


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", required=True, metavar="NAME=RUN", help="a run folder, with a name")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--scan", required=True, help="id of a scan of the split")
    parser.add_argument("--split", default="test")
    parser.add_argument("--draw", type=int, default=0, help="number of the mask draw")
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    runs = {name: load_run(Path(path), device="cpu") for name, _, path in (run.partition("=") for run in words.run)}
    first = next(iter(runs.values()))
    models: dict[str, Reconstructor] = {name: loaded.model for name, loaded in runs.items()}
    models["kriging"] = compared_models(first)["kriging"]
    cases = cases_of(models, first, ScanStore(words.store), words)
    save_figure(drawn(cases), words.out)


def cases_of(
    models: Mapping[str, Reconstructor], first: LoadedModel, store: ScanStore, words: argparse.Namespace
) -> dict[str, Case]:
    """The scan as each model rebuilds it, under the same mask."""
    data = first.config.data
    protocol = replace(Protocol(whole_scan=True), window=data.window)
    regions = regions_of(store, data, first.config.model.superpatch, words.split)
    region = next(region for region in regions if region.entry.scan_id == words.scan)
    entry, window = region.entry, protocol.window
    cases = {}
    for name, model in models.items():
        masked = under(model, protocol.masking_of(first.config.masking))
        rebuilt = rebuild_region(masked, store, region, protocol, draw=words.draw)
        truth, whole = (window.denormalize(one).astype(np.float32) for one in (rebuilt.truth, rebuilt.whole))
        cases[name] = Case(
            entry.scan_id, entry.dataset, truth, whole, rebuilt.mask, held_out(region), entry.spacing_mm, window
        )
    return cases


def drawn(cases: Mapping[str, Case]) -> Figure:
    """A row per view, and a column per picture."""
    first = next(iter(cases.values()))
    tissue = ((first.truth_hu > -500).sum(axis=(1, 2))) * ~first.mask.all(axis=(1, 2))
    chosen = {**first.best_slices(), "axial": int(tissue.argmax())}
    heights = [view_size_mm(first, view)[0] for view in VIEWS]
    titles = ["original", "masked input", *cases, f"error of {next(iter(cases))}"]
    wide = max(view_size_mm(first, view)[1] for view in VIEWS)
    height = 14 / len(titles) * sum(heights) / wide + 0.5
    figure = Figure(figsize=(14, height), layout="constrained", facecolor="white")
    grid = figure.subplots(len(VIEWS), len(titles), height_ratios=heights, squeeze=False)
    for row, view in zip(grid, VIEWS, strict=True):
        vertical, horizontal = pixel_mm(view, first.spacing_mm)
        truth, mask = (cut(volume, view, chosen[view]) for volume in (first.truth_hu, first.mask))
        rebuilt = [cut(case.reconstruction_hu, view, chosen[view]) for case in cases.values()]
        error = np.clip(np.abs(rebuilt[0] - truth) / ERROR_HU, 0, 1).astype(np.float64)
        images = [grey(image, SHOWN_HU) for image in (truth, truth, *rebuilt)] + [heat(error)]
        images[1] = hidden(images[1], mask)
        for axes, image, title in zip(row, images, titles, strict=True):
            axes.imshow(image, aspect=vertical / horizontal, interpolation="nearest")
            axes.set_axis_off()
            if view == VIEWS[0]:
                axes.set_title(title, fontsize=10)
        edge_letters(row[0], view)
    return figure


def hidden(image: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The image with its masked pixels in one colour."""
    return np.where(mask.astype(bool)[..., None], np.array(HIDDEN), image)


if __name__ == "__main__":
    main()
