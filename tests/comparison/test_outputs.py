"""What a comparison leaves behind: files, figures, and a page that works."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comparison_results import COST, case, comparison, full, score
from maesil.comparison.figures import compression_figure, curves_figure, figure3
from maesil.comparison.outputs import write_all
from maesil.comparison.result import EVERYTHING, VISIBLE, ModelResult
from maesil.comparison.spec import parse_models
from maesil.comparison.viewer import chosen_slices, encode_cases

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CASES = {"maesil": [case(0)], "ae": [case(1)], "ae, masked input": [case(2)]}


def test_write_all__everything_in_every_form(tmp_path: Path) -> None:
    page = write_all(full(), CASES, tmp_path)
    expected = {f"{name}.{kind}" for name in ("table2", "table3", "cost") for kind in ("md", "tex")}
    expected |= {
        "table2.csv",
        "table3.csv",
        "paired.csv",
        "cost.csv",
        "index.html",
        "compression.png",
        "figure3.png",
        "figure3-error.png",
    }
    assert {path.name for path in tmp_path.iterdir()} == expected
    html = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|https://arxiv)', html)
    for name in ("figure3.png", "compression.png"):
        image = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert image.std() > 10


def test_write_all__with_a_part_of_it(tmp_path: Path) -> None:
    page = write_all(comparison(score("interpolation", "a", 20.0), failed="no memory"), {}, tmp_path)
    assert "no memory" in page.read_text(encoding="utf-8")
    assert not (tmp_path / "figure3.png").exists()


def test_write_all__of_failures_alone_and_of_rows_that_learn_nothing(tmp_path: Path) -> None:
    write_all(full(), {}, tmp_path)
    assert (tmp_path / "cost.md").is_file()
    untrained = [result for result in full().results if result.model == "interpolation"]
    scores = tuple(each for each in full().scores if each.model == "interpolation")
    found = replace(full(), results=tuple(untrained), scores=scores, ours="interpolation")
    write_all(found, {}, tmp_path)
    assert not (tmp_path / "cost.md").exists(), "that of the models before"
    write_all(comparison(failed="no memory"), {}, tmp_path / "failed")
    assert (tmp_path / "failed" / "table2.md").is_file()


def test_compression_figure__needs_a_bottleneck() -> None:
    assert compression_figure(comparison(score("maesil", "a", 20.0))) is None
    assert compression_figure(full()) is not None


def test_compression_figure__counts_bits_so_that_code_books_stand_apart() -> None:
    sizes = {"vqvae": 8192.0, "vqvae:codes=16": 4096.0}
    results = [
        ModelResult(name, "vqvae", {name: EVERYTHING}, cost=replace(COST, latent_bits=bits))
        for name, bits in sizes.items()
    ]
    scores = [score(name, "a", 20.0, region="predicted") for name in sizes]
    figure = compression_figure(replace(comparison(*scores), results=(*comparison().results, *results)))
    assert figure is not None
    (axes,) = figure.axes
    (points,) = [line for line in axes.get_lines() if line.get_label() == "VQVAE"]
    assert sorted(points.get_xdata()) == [4096 / 262144, 8192 / 262144]
    assert "32 for a number that is free" in axes.get_xlabel()


def test_compression_figure__leaves_out_a_panel_without_points() -> None:
    corrupt = ModelResult("ae:corrupt=true", "ae", {"ae:corrupt=true": VISIBLE}, cost=COST)
    found = replace(comparison(score("ae:corrupt=true", "a", 20.0)), results=(corrupt,))
    figure = compression_figure(found)
    assert figure is not None
    assert [axes.get_title().splitlines()[-1] for axes in figure.axes] == ["masked voxels"]


def test_figure3__names_rows_in_few_lines() -> None:
    (spec,) = parse_models(["slice_mae:masks=shared:patch=[1, 8, 8]"])
    figure = figure3({spec.title: case()})
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert "slice_mae,\nmasks shared,\npatch 1x8x8" in labels


def test_curves_figure__draws_the_logs(tmp_path: Path) -> None:
    assert curves_figure(full()) is None
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.csv").write_text("step,val_psnr_masked\n5,14\n10,15\n")
    drawn = full()
    ours = replace(drawn.results[0], run=tmp_path)
    figure = curves_figure(replace(drawn, results=(ours, *drawn.results[1:])))
    assert figure is not None
    (line,) = figure.axes[0].get_lines()
    assert list(line.get_xdata()) == [40.0, 80.0]  # superpatches: eight a step


def test_encode_cases__slices_hold_tissue_and_share_masks() -> None:
    assert all(4 <= index < 16 for index in chosen_slices(case(), "axial"))
    (scan,) = encode_cases(CASES)
    axial = scan["views"]["axial"]
    assert len(axial["masks"]) == 1
    assert set(axial["models"]) == set(CASES)
    assert (axial["rows"], axial["columns"]) == (24, 28)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_page__draws_in_a_browser(tmp_path: Path) -> None:
    page = write_all(full(), CASES, tmp_path)
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert 'data-ready="1"' in done.stdout
    assert "data-error" not in done.stdout
    assert re.search(r"slice \d+, \d+ mm", done.stdout)
