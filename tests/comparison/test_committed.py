"""The tables of committed comparisons, made again from the scores beside them."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path
from statistics import fmean

import pytest

from maesil.comparison.experiment import Entered, merged
from maesil.comparison.model_sets import MODEL_SETS
from maesil.comparison.result import TOLD, VISIBLE, Comparison, Cost, ModelResult
from maesil.comparison.spec import Spec, parse_models
from maesil.comparison.tables import cost_tables, paired_csv, table2, table3
from maesil.evaluation.intervals import patient_interval
from maesil.evaluation.scores import Score, read_scores
from maesil.evaluation.sheet import sheet_to_markdown
from maesil.presets import PRESETS

RESULTS = Path(__file__).parents[2] / "results"
LAB = RESULTS.parent / "docs" / "lab.md"
README = RESULTS.parent / "README.md"
PLAIN = "maesil:head=patch:visible_head=false:model.fusion.width=0"
COMMITTED = {
    "comparison": (
        "maesil",
        PLAIN,
        "unet",
        "unet:ssim_weight=1",
        "ae:corrupt=true",
        "ae",
        "vae",
        "vqvae",
        "kriging",
        "interpolation",
        "mean",
        "slice_ceiling",
    ),
    "seamless": ("maesil", PLAIN, "kriging"),
}
"""Folder to its models, ours first."""
SETS = {"ablation": "ablation-masking", "bottlenecks": "bottlenecks"}
"""Folder to the set of its models, after 1,000 steps."""
SEAMLESS = "seamless/models/maesil/scores.jsonl"
"""Scores of the preset `demo` with an overlapping head, after 1,000 steps, on validation patients."""
SLICES = ("maesil", "slice_mae:masks=shared:patch=[1, 8, 8]", "kriging", "interpolation", "mean", "slice_ceiling")
"""Models of the comparison of 2D and 3D under plane-wise masks."""
HEAD_NECK = ("maesil", "unet:ssim_weight=1", "ae:corrupt=true", "kriging", "interpolation", "mean")
"""Models of the comparison at 4 mm."""
SEEDS = ("seed-1", "seed-2")
"""Folders of the second and third seed."""
DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3}
"""Decimals of the pages' scores."""
THREE = (0, 1, 2)
"""Seeds of the comparison on test patients; the others have one."""
OURS_THIRD = "models/maesil/seed-2"
"""Our training in bf16, on the machine of the one at equal time."""


@pytest.fixture(scope="module", params=[*COMMITTED, *SETS])
def committed(request: pytest.FixtureRequest) -> tuple[Path, Comparison]:
    folder = RESULTS / request.param
    if request.param in SETS:
        return folder, read_set(request.param)
    if request.param == "comparison":
        return folder, read_three_seeds()
    return folder, read_comparison(folder / "models", COMMITTED[request.param], 1000)


def read_three_seeds() -> Comparison:
    """The comparison on test patients at 2 mm, three seeds of each model."""
    return read_comparison(RESULTS / "comparison" / "models", COMMITTED["comparison"], 4000, THREE)


def read_set(name: str) -> Comparison:
    """The comparison of a set of models, beside `demo`."""
    specs = MODEL_SETS[SETS[name]](PRESETS["demo"]()).specs
    return comparison_of(RESULTS / name / "models", specs, 1000)


def read_comparison(folder: Path, models: tuple[str, ...], steps: int, seeds: tuple[int, ...] = (0,)) -> Comparison:
    """The comparison of a folder's models."""
    return comparison_of(folder, parse_models(models), steps, seeds)


def comparison_of(folder: Path, specs: Sequence[Spec], steps: int, seeds: tuple[int, ...] = (0,)) -> Comparison:
    """The comparison of models; those that learn nothing have one seed."""
    entered = [
        merged([read_entered(folder, spec, seed) for seed in seeds if spec.trained or not seed]) for spec in specs
    ]
    results, scores = zip(*entered, strict=True)
    budget = f"{steps} optimiser steps per model"
    return Comparison("", results[0].delivered, budget, results, tuple(chain(*scores)), (), (), {})


def read_entered(folder: Path, spec: Spec, seed: int) -> Entered:
    """One seed of a model: its result and its scores."""
    own = folder / spec.folder / (f"seed-{seed}" if seed else "")
    entrant = json.loads((own / "entrant.json").read_text()) if spec.trained else {}
    result = ModelResult(
        spec.label,
        spec.model,
        entrant.get("entries", {spec.label: TOLD if spec.model == "slice_ceiling" else VISIBLE}),
        title=spec.title,
        plain=not spec.settings,
        cost=Cost(**entrant["cost"]) if spec.trained else None,
        seeds=(seed,) if spec.trained else (),
    )
    return result, tuple(read_scores(own / "scores.jsonl"))


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("|", "#"))]


@pytest.mark.parametrize("name", ["table2", "table3", "cost"])
def test_tables__read_as_they_were_committed(committed: tuple[Path, Comparison], name: str) -> None:
    folder, comparison = committed
    sheets = {"table2": table2, "table3": table3, "cost": cost_tables}[name](comparison)
    made = "\n".join(map(sheet_to_markdown, sheets))
    assert table_lines(made) == table_lines((folder / f"{name}.md").read_text(encoding="utf-8"))


def test_paired_csv__is_as_it_was_committed(committed: tuple[Path, Comparison]) -> None:
    """To the last bit: the resamples and the order of every sum are the same."""
    folder, comparison = committed
    assert paired_csv(comparison) == (folder / "paired.csv").read_text(encoding="utf-8")


def test_bottlenecks__pages_have_the_means_of_the_scores() -> None:
    comparison = read_set("bottlenecks")
    page, lab = (RESULTS / "bottlenecks" / "README.md").read_text(), LAB.read_text()
    bits = {result.label: result.cost.bits_per_voxel for result in comparison.results if result.cost}

    def cell(model: str) -> str:
        psnr, ssim = (masked_mean(comparison, model, metric) for metric in ("psnr", "ssim"))
        return f"{psnr:.2f} ({ssim:.3f}) [{bits[model]:.3g}]"

    for shown, models in (
        ("`ae`", ("ae", "ae:latent_channels=6", "ae:latent_channels=1")),
        ("`vae`, KL weight 1e-6", ("vae", "vae:latent_channels=6", "vae:latent_channels=1")),
        ("`vqvae`", ("vqvae:channels=[32, 64]:latent_channels=6", "vqvae", "vqvae:channels=[32, 64, 128, 128]")),
    ):
        row = f"| {shown} | {' | '.join(map(cell, models))} |"
        assert row in page
        assert row in lab
    assert f"| `vae`, KL weight 1 | {cell('vae:kl_per_voxel=250000')} | | |" in page
    for shown, model in (
        ("`maesil + fusion`", "maesil + fusion"),
        ("`maesil`, its trunk", "maesil"),
        ("`kriging`", "kriging"),
        ("`interpolation`", "interpolation"),
        ("`ae:corrupt=true`, trained on masked input", "ae:corrupt=true"),
        ("`ae`, which was not trained on masked input", "ae, masked input"),
        ("`mean` of the visible voxels", "mean"),
    ):
        psnr, ssim, lpips = (masked_mean(comparison, model, metric) for metric in ("psnr", "ssim", "lpips"))
        assert f"| {shown} | {psnr:.2f} | {ssim:.3f} | {lpips:.3f} |" in page
    names = [name for name in bits if name not in ("maesil", "ae:corrupt=true")]
    given = [masked_mean(comparison, f"{name}, masked input", "psnr") for name in names]
    everything = [masked_mean(comparison, name, "psnr") for name in names]
    assert f"autoencoders have {min(given):.2f} to {max(given):.2f} dB" in page
    assert sorted(everything)[1] > masked_mean(comparison, "maesil + fusion", "psnr")


def test_ablation__pages_have_the_means_and_the_differences_of_the_scores() -> None:
    comparison = read_set("ablation")
    page, lab = (RESULTS / "ablation" / "README.md").read_text(), LAB.read_text()
    for shown, dual, own in (
        ("uniform 75 %", "uniform 75 %", "uniform 75 %, own masks"),
        ("visible patches count 0.1", "visible patches count 0.1", ""),
        ("plane-wise 75 %", "plane 75 %", "plane 75 %, own masks"),
        ("**dual 75 %**, the paper's", "dual 75 %", ""),
        ("dual 87.5 %", "dual 87.5 %", "dual 87.5 %, own masks"),
        ("axis-wise 75 %", "axis 75 %", "axis 75 %, own masks"),
        ("patches of 16, dual 75 %", "", "patch 16"),
    ):
        cells = [shown, *(three_means(comparison, model) if model else "" for model in (dual, own))]
        row = f"| {' | '.join(cells)} |".replace("|  |", "| |")
        assert row in page
        assert row in lab
    assert f"| {three_means(comparison, 'kriging')} | |" in page
    assert f"told their mean and deviation | {three_means(comparison, 'normalised targets')} | |" in page
    paired = comparison.paired.query("region == 'masked' and entry == 'uniform 75 %'").set_index("metric")
    said = " ".join(page.split())
    for metric, text in (
        ("psnr", "by {:.2f} dB ({:.2f} to {:.2f}; {} of 9 scans; p = {:.3f} after Holm's correction)"),
        ("ssim", "{:.3f} in SSIM ({:.3f} to {:.3f}; {} of 9)"),
        ("lpips", "{:.3f} in LPIPS ({:.3f} to {:.3f}; {} of 9; p = {:.3f})"),
    ):
        row = paired.loc[metric]
        low, high = sorted(abs(row[bound]) for bound in ("low", "high"))
        ahead = 9 - row["larger"] if metric == "lpips" else row["larger"]
        assert text.format(abs(row["difference"]), low, high, ahead, row["p_holm"]) in said


def test_ablation__longer_pages_have_the_scores() -> None:
    page, lab, overview = (
        (RESULTS / name).read_text() for name in ("ablation/README.md", "../docs/lab.md", "README.md")
    )
    uniform = masked_by_scan(
        RESULTS / "ablation/longer/scores.jsonl", "maesil:masking.name=uniform:masking.mask_ratio=0.75 + fusion"
    )
    dual = masked_by_scan(RESULTS / "sharper/preset/scores.jsonl", "maesil + fusion")
    for shown, row in (("`demo`", dual), ("`demo`, trained under uniform masks", uniform)):
        assert f"| {shown} | {' | '.join(shown_means(row))} |" in page
        assert "{}, {}, {}".format(*shown_means(row)) in overview
    assert "{} dB, SSIM {} and LPIPS {}, where `demo` has {}, {} and {}.".format(
        *shown_means(uniform), *shown_means(dual)
    ) in " ".join(lab.split())
    cells = []
    for metric, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3)):
        gains = [value - dual[metric][scan] for scan, value in uniform[metric].items()]
        low, high = patient_interval(gains, list(uniform[metric]))
        ahead = sum(gain > 0 for gain in gains) if metric != "lpips" else sum(gain < 0 for gain in gains)
        cells.append(f"{sum(gains) / 9:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}], {ahead} of 9")
    assert f"| difference, 95 % interval, scans on which uniform is ahead | {' | '.join(cells)} |" in page


def test_decoders__the_page_has_the_scores_and_the_costs() -> None:
    models = {
        "`decoder=cross`, a quarter of the masked tokens rebuilt": "maesil:decoder=cross:rebuilt_share=0.25",
        "`decoder=windows`": "maesil:decoder=windows",
        "`decoder=axial`": "maesil:decoder=axial",
        "`decoder=self`": "maesil",
    }
    folder = RESULTS / "decoders"
    axial, windows, cross = (f"maesil:decoder={name}" for name in ("axial", "windows", "cross:rebuilt_share=0.25"))
    names = ("maesil", axial, windows, cross, "kriging")
    comparison = read_comparison(folder / "models", names, 0)
    assert paired_csv(comparison) == (folder / "paired.csv").read_text(encoding="utf-8")
    page, paired = (
        (folder / "README.md").read_text(),
        comparison.paired.query("region == 'masked' and metric == 'psnr'"),
    )
    ahead = {
        row.entry: f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}], {row.larger} of 8"
        for row in paired.itertuples()
    }
    for shown, name in models.items():
        (cost,) = (result.cost for result in comparison.results if result.label == name)
        assert cost is not None
        steps = json.loads((folder / "models" / parse_models([name])[0].folder / "budget.json").read_text())["steps"]
        psnr, ssim = (masked_mean(comparison, name, metric) for metric in ("psnr", "ssim"))
        row = f"| {shown} | {cost.flops / 1e9:.1f} | {steps:,} | {cost.seconds:.0f} | {psnr:.2f} | {ssim:.3f} |"
        assert f"{row} {ahead[name]} |" in page if name in ahead else row in page
        assert f"{psnr:.2f}" in LAB.read_text()


def three_means(comparison: Comparison, model: str) -> str:
    """PSNR (SSIM, LPIPS) of masked voxels."""
    psnr, ssim, lpips = (masked_mean(comparison, model, metric) for metric in ("psnr", "ssim", "lpips"))
    return f"{psnr:.2f} ({ssim:.3f}, {lpips:.3f})"


def test_three_seeds__the_pages_have_the_paired_tests() -> None:
    """Scans on which a rival is ahead (LPIPS: behind), and Holm's p, as the comparison's page states them."""
    with (RESULTS / "comparison" / "paired.csv").open(newline="") as file:
        rows = {(row["entry"], row["metric"]): row for row in csv.DictReader(file) if row["region"] == "masked"}
    page = (RESULTS / "comparison" / "README.md").read_text().replace("\n", " ")
    unet = {metric: rows["unet", metric] for metric in ("psnr", "ssim", "lpips")}
    assert f"on {18 - int(unet['lpips']['larger'])} of 18 scans, p = {float(unet['lpips']['p_holm']):.3f}" in page
    assert f"on {18 - int(unet['ssim']['larger'])} of 18 scans (0.684 vs 0.663, p < 0.001" in page
    assert float(unet["ssim"]["p_holm"]) < 0.001
    assert f"ahead on {18 - int(unet['psnr']['larger'])} of 18, p = {float(unet['psnr']['p_holm']):.2f}" in page
    kriging = rows["kriging", "psnr"]
    assert int(kriging["larger"]) == 0
    low, high = (-float(kriging[bound]) for bound in ("high", "low"))
    assert f"{-float(kriging['difference']):.2f} dB ({low:.2f} to {high:.2f})" in page


def test_comparison__the_page_has_the_u_net_that_is_trained_on_ssim() -> None:
    """Means of ours and its over three seeds, and on how many scans it is ahead (LPIPS: the lower)."""
    with (RESULTS / "comparison" / "paired.csv").open(newline="") as file:
        rows = {
            row["metric"]: row
            for row in csv.DictReader(file)
            if row["entry"] == "unet:ssim_weight=1" and row["region"] == "masked"
        }
    comparison = read_three_seeds()
    page = (RESULTS / "comparison" / "README.md").read_text().replace("\n", " ")
    for metric, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3)):
        means = [
            f"{masked_mean(comparison, model, metric):.{digits}f}"
            for model in ("unet:ssim_weight=1", "maesil + fusion")
        ]
        ahead = int(rows[metric]["larger"]) if metric != "lpips" else 18 - int(rows[metric]["larger"])
        low, high = (float(rows[metric][bound]) for bound in ("low", "high"))
        p = float(rows[metric]["p_holm"])
        shown = f"{p:.3f}" if p >= 0.001 else "< 0.001"
        interval = f"[{low:+.{digits}f}, {high:+.{digits}f}]"
        assert f"| {means[0]} | {means[1]} | {interval} | on {ahead} of 18 scans | {shown} |" in page


def test_comparison__the_page_has_the_u_net_at_equal_time() -> None:
    """Its means, its seconds, and on how many scans it is ahead of our three seeds (PSNR: behind)."""
    folder = RESULTS / "comparison"
    page = (folder / "README.md").read_text().replace("\n", " ")
    cost = {
        name: json.loads((folder / name / "entrant.json").read_text())["cost"] for name in ("equal_time", OURS_THIRD)
    }
    assert cost["equal_time"]["seconds"] <= cost[OURS_THIRD]["seconds"]
    assert f"took {cost['equal_time']['seconds']:,.0f} s of a core" in page
    assert f"our 4,000 steps {cost[OURS_THIRD]['seconds']:,.0f} s" in page
    found = masked_by_scan(folder / "equal_time" / "scores.jsonl", "unet:ssim_weight=1")
    seeds = [
        masked_by_scan(folder / "models/maesil" / seed / "scores.jsonl", "maesil + fusion")
        for seed in ("", "seed-1", "seed-2")
    ]
    means = {metric: sum(values.values()) / 18 for metric, values in found.items()}
    assert f"has {means['psnr']:.2f} dB, {means['ssim']:.3f} and {means['lpips']:.3f} after 3,150 steps" in page
    more = {
        metric: sum(value > sum(seed[metric][scan] for seed in seeds) / 3 for scan, value in values.items())
        for metric, values in found.items()
    }
    ahead = f"ahead in SSIM on {more['ssim']} of 18 scans and in LPIPS on {18 - more['lpips']}"
    assert f"{ahead}, behind in PSNR on {18 - more['psnr']}." in page


def test_slices__the_tables_are_made_from_the_scores() -> None:
    folder = RESULTS / "comparison" / "slices" / "plane"
    comparison = read_comparison(folder / "models", SLICES, 3999)
    made = "\n".join(map(sheet_to_markdown, table2(comparison)))
    assert table_lines(made) == table_lines((folder / "table2.md").read_text(encoding="utf-8"))
    assert paired_csv(comparison) == (folder / "paired.csv").read_text(encoding="utf-8")


def test_head_neck__tables_and_page_are_made_from_the_scores() -> None:
    folder = RESULTS / "comparison" / "head_neck"
    comparison = read_comparison(folder / "models", HEAD_NECK, 4000)
    made = "\n".join(map(sheet_to_markdown, table2(comparison)))
    assert table_lines(made) == table_lines((folder / "table2.md").read_text(encoding="utf-8"))
    assert paired_csv(comparison) == (folder / "paired.csv").read_text(encoding="utf-8")
    page, readme = (RESULTS / "comparison" / "README.md").read_text(), README.read_text()
    for shown, place, model in (
        ("`unet:ssim_weight=1`", "unet_ssim_weight=1", "unet:ssim_weight=1"),
        ("`maesil + fusion`", "maesil", "maesil + fusion"),
        ("`maesil`, its trunk", "maesil", "maesil"),
        ("`kriging`", "kriging", "kriging"),
        ("`ae:corrupt=true`", "ae_corrupt=true", "ae:corrupt=true"),
        ("`interpolation`", "interpolation", "interpolation"),
    ):
        assert page_row(shown, f"comparison/head_neck/models/{place}/scores.jsonl", model) in page
    with (folder / "paired.csv").open(newline="") as file:
        rows = {(row["entry"], row["metric"]): row for row in csv.DictReader(file) if row["region"] == "masked"}
    for metric, digits in DIGITS.items():
        row = rows["ae:corrupt=true", metric]
        low, high = sorted(abs(float(row[bound])) for bound in ("low", "high"))
        behind = int(row["larger"]) if metric == "lpips" else 31 - int(row["larger"])
        gap = f"{abs(float(row['difference'])):.{digits}f}"
        interval = f"({low:.{digits}f} to {high:.{digits}f}; on {behind}"
        assert re.search(rf"{gap}( dB| in SSIM| in LPIPS) {re.escape(interval)}", page), metric
    rival, ours = (
        [f"{masked_mean(comparison, model, metric):.3f}" for metric in ("ssim", "lpips")]
        for model in ("unet:ssim_weight=1", "maesil + fusion")
    )
    assert f"SSIM {rival[0]} vs {ours[0]}, LPIPS {rival[1]} vs {ours[1]}, PSNR level" in readme
    voxels = "voxel_fusion/head_neck/test/scores.jsonl"
    row = page_row("the same trunk with a fusion on voxels, 2,500 steps", voxels, "maesil + fusion")
    assert row in page


def test_head_neck__pages_have_the_fusion_on_voxels() -> None:
    """Means and intervals of the fusion on voxels at 4 mm, on validation and on test patients."""
    page, comparison = ((RESULTS / name / "README.md").read_text() for name in ("voxel_fusion", "comparison"))
    own, models = RESULTS / "voxel_fusion/head_neck", RESULTS / "comparison/head_neck/models"
    rows = {
        "11 validation patients: fusion on voxels": (own / "val/voxels", "maesil + fusion"),
        "31 test patients: fusion on voxels": (own / "test", "maesil + fusion"),
    }
    rivals = {
        "fusion on cells, 600 steps": ((own / "val/cells", "maesil + fusion"), (models / "maesil", "maesil + fusion")),
        "`unet:ssim_weight=1`": ((own / "val/unet", "unet"), (models / "unet_ssim_weight=1", "unet:ssim_weight=1")),
    }
    found = {name: masked_by_scan(folder / "scores.jsonl", model) for name, (folder, model) in rows.items()}
    for name, row in found.items():
        assert f"| {name} | {' | '.join(shown_means(row))} |" in page
    voxels = found["31 test patients: fusion on voxels"]
    for name, places in rivals.items():
        val, test = (masked_by_scan(folder / "scores.jsonl", model) for folder, model in places)
        for row in (val, test):
            assert f"| {name} | {' | '.join(shown_means(row))} |" in page
        for metric, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3)):
            differences = [value - test[metric][scan] for scan, value in voxels[metric].items()]
            ends = sorted(abs(end) for end in patient_interval(differences, list(voxels[metric])))
            gain = f"{abs(sum(differences) / 31):.{digits}f}"
            interval = f"({ends[0]:.{digits}f} to {ends[1]:.{digits}f}"
            for text in (page, comparison) if "unet" in name else (page,):
                assert re.search(rf"{gain}( dB| in SSIM| in LPIPS)? {re.escape(interval)}", text), (name, metric)
            better = sum((value < 0) if metric == "lpips" else (value > 0) for value in differences)
            assert better == ({"psnr": 21, "ssim": 0, "lpips": 31 - 22}[metric] if "unet" in name else 31)


def test_head_neck__pages_have_the_longer_training() -> None:
    """The network of 10,000 steps with its fusion on voxels, beside a U-Net that was trained for as long."""
    page = (RESULTS / "voxel_fusion" / "README.md").read_text().replace("\n", " ")
    folder = RESULTS / "voxel_fusion/head_neck"
    voxels, unet = folder / "longer/voxels/scores.jsonl", folder / "longer/unet/scores.jsonl"
    kriging = RESULTS / "comparison/head_neck/models/kriging/scores.jsonl"
    rows = {
        "`unet:ssim_weight=1` with 7.9 M parameters, 10,000 steps": (unet, "unet"),
        "10,000 steps, fusion on voxels 2,500 steps": (voxels, "maesil + fusion"),
        "its trunk alone, 10,000 steps": (voxels, "maesil"),
        "3,400 steps, fusion on voxels 2,500 steps, as above": (folder / "test/scores.jsonl", "maesil + fusion"),
        "`kriging`": (kriging, "kriging"),
    }
    for name, (file, model) in rows.items():
        assert page_row(name, file.relative_to(RESULTS).as_posix(), model) in page
    ours = masked_by_scan(voxels, "maesil + fusion")
    for name in (next(iter(rows)), "3,400 steps, fusion on voxels 2,500 steps, as above", "`kriging`"):
        other = masked_by_scan(*rows[name])
        better, worse = (other, ours) if "unet" in name else (ours, other)
        for (metric, digits), unit in zip(DIGITS.items(), (" dB", " in SSIM", " in LPIPS"), strict=True):
            gain, interval, count = difference(better, worse, metric, digits)
            behind = "behind " if (name, metric) == (next(iter(rows)), "psnr") else ""
            assert f"{gain}{unit} ({interval}; {behind}on {count}" in page, (name, metric)
    (rival, own) = (shown_means(masked_by_scan(*rows[name])) for name in list(rows)[:2])
    told = f"SSIM {rival[1]} vs {own[1]}, LPIPS {rival[2]} vs {own[2]}, PSNR level ({rival[0]} vs {own[0]} dB)"
    assert told in README.read_text()
    for text in (LAB.read_text().replace("\n", " "), (RESULTS / "README.md").read_text()):
        assert all(re.search(rf"{row[0]}( dB)?, {row[1]}", text) for row in (rival, own))
    for file, rows_logged in ((unet, 1000), (voxels, 250)):
        with file.with_name("metrics.csv").open(newline="") as log:
            logged = [row for row in csv.DictReader(log) if row["superpatches_per_s"]]
        assert len(logged) == rows_logged
        assert f"{sum(80 / float(row['superpatches_per_s']) for row in logged):,.0f} s" in page


def shown_seed(means: dict[str, float]) -> str:
    return f"{means['psnr']:.2f}, {means['ssim']:.3f}, {means['lpips']:.3f}"


def test_slices__the_pages_have_the_scores() -> None:
    """Under dual masks beside the ceiling, and under plane-wise masks beside ours."""
    page = (RESULTS / "comparison" / "README.md").read_text().replace("\n", " ")
    folder = RESULTS / "comparison" / "slices"
    dual = masked_by_scan(folder / "dual" / "scores.jsonl", SLICES[1])
    means = {metric: sum(values.values()) / 18 for metric, values in dual.items()}
    assert f"{means['psnr']:.2f} dB (SSIM {means['ssim']:.3f}, LPIPS {means['lpips']:.3f}; second" in page
    assert f"| {means['psnr']:.2f} | {means['ssim']:.4f} | {means['lpips']:.4f} |" in LAB.read_text()
    others = [masked_by_scan(folder / "dual" / seed / "scores.jsonl", SLICES[1]) for seed in SEEDS]
    cells = [shown_seed({metric: sum(values.values()) / 18 for metric, values in found.items()}) for found in others]
    assert f"; second and third seed: {' and '.join(cells)})" in page
    ceiling = masked_by_scan(RESULTS / "comparison/models/slice_ceiling/scores.jsonl", "slice_ceiling")["psnr"]
    below = sum(value > dual["psnr"][scan] for scan, value in ceiling.items())
    assert f"below that ceiling on {below} of 18 scans" in page
    for shown, model in {
        "`maesil + fusion`, 3,999 steps": "maesil + fusion",
        "`slice_mae`, 695 steps of 22.1 GFLOP per superpatch": SLICES[1],
        "`kriging`": "kriging",
        "`interpolation`": "interpolation",
    }.items():
        own = SLICES[1] if model == SLICES[1] else model.split()[0]
        (spec,) = parse_models([own])
        found = masked_by_scan(folder / "plane" / "models" / spec.folder / "scores.jsonl", model)
        plane = {metric: sum(values.values()) / 18 for metric, values in found.items()}
        assert f"| {shown} | {plane['psnr']:.2f} | {plane['ssim']:.3f} | {plane['lpips']:.3f} |" in page
    with (folder / "plane" / "paired.csv").open(newline="") as file:
        rows = {(row["entry"], row["region"], row["metric"]): row for row in csv.DictReader(file)}
    row = rows[SLICES[1], "masked", "psnr"]
    low, high = (-float(row[bound]) for bound in ("high", "low"))
    assert (int(row["larger"]), float(row["p_holm"]) < 0.001) == (0, True)
    assert f"by {-float(row['difference']):.2f} dB ({low:.2f} to {high:.2f})" in page


def test_comparison__the_page_has_each_seed() -> None:
    """PSNR, SSIM and LPIPS of masked voxels: first, second and third seed."""
    page = (RESULTS / "comparison" / "README.md").read_text()
    for shown, model in {
        "`maesil + fusion`": "maesil + fusion",
        "plain": PLAIN,
        "U-Net": "unet",
        "autoencoder trained on holes": "ae:corrupt=true",
        "`ae`, everything visible": "ae",
        "`vae`, everything visible": "vae",
        "`vqvae`, everything visible": "vqvae",
        "U-Net with SSIM": "unet:ssim_weight=1",
    }.items():
        means = seed_means(model)
        cells = (", ".join(f"{mean[metric]:.{digits}f}" for mean in means) for metric, digits in DIGITS.items())
        assert f"| {shown} | {' | '.join(cells)} |" in page


def test_comparison__the_pages_have_the_autoencoder_trained_on_holes() -> None:
    means = seed_means("ae:corrupt=true")
    psnr, ssim, lpips = (sum(mean[metric] for mean in means) / 3 for metric in DIGITS)
    page = (RESULTS / "comparison" / "README.md").read_text()
    assert f"on every scan ({psnr:.2f} dB, {ssim:.3f}, {lpips:.3f}; p < 0.001)" in page
    assert f"| `ae:corrupt=true` | {psnr:.2f} | {ssim:.4f} | {lpips:.4f} |" in LAB.read_text()


def seed_means(model: str) -> list[dict[str, float]]:
    """Means over the 18 scans of a row of the comparison, of each seed."""
    (spec,) = parse_models([model.removesuffix(" + fusion")])
    folder = RESULTS / "comparison" / "models" / spec.folder
    seeds = (masked_by_scan(folder / seed / "scores.jsonl", model) for seed in ("", *SEEDS))
    return [{metric: sum(values.values()) / 18 for metric, values in found.items()} for found in seeds]


def test_jumps__the_pages_have_the_measured_steps_between_superpatches() -> None:
    measured = json.loads((RESULTS / "seamless" / "jumps.json").read_text())
    page = (RESULTS / "seamless" / "README.md").read_text()
    shown = {}
    for row in measured["rows"]:
        cells = [f"{row[axis]['mean']:.2f}" for axis in "SPL"]
        assert f"| {row['masks']} | `{row['model']}` | {' | '.join(cells)} |" in page
        shown[row["masks"], row["model"]] = [row[axis]["mean"] for axis in "SPL"]
    apart, one = (
        shown["a mask for each superpatch", "maesil + fusion"],
        shown["one mask for the scan", "maesil + fusion"],
    )
    assert "{:.0f}, {:.0f} and {:.0f} times the scan's".format(*apart) in LAB.read_text()
    assert "{:.2f}, {:.2f} and {:.2f} times, a little too smooth".format(*one) in LAB.read_text()


def test_comparison__the_pages_have_the_autoencoders_of_the_paper() -> None:
    """Masked PSNR with everything visible, where they are ahead of ours on every scan, and of the masked input."""
    comparison = read_three_seeds()
    with (RESULTS / "comparison" / "paired.csv").open(newline="") as file:
        rows = {
            row["entry"]: row for row in csv.DictReader(file) if (row["region"], row["metric"]) == ("masked", "psnr")
        }
    names = ("ae", "vae", "vqvae")
    assert [rows[name]["larger"] for name in names] == ["18"] * 3
    all_seen, masked = (
        [f"{masked_mean(comparison, f'{name}{sees}', 'psnr'):.2f}" for name in names] for sees in ("", ", masked input")
    )
    page, overview = ((RESULTS / name).read_text().replace("\n", " ") for name in ("comparison/README.md", "README.md"))
    assert "{} dB (`ae`), {} dB (`vae`) and {} dB (`vqvae`)".format(*all_seen) in page
    assert "{}, {} and {} dB".format(*masked) in page
    assert "{} (AE), {} (VAE) and {} dB (VQ-VAE)".format(*all_seen) in overview
    assert f"| {', '.join(masked)} |" in LAB.read_text()


def test_comparison__visible_voxels_are_rebuilt_to_30_db() -> None:
    """Errors of the regions add up: those of `predicted` are those of `whole`, and of the visible voxels."""
    errors: dict[str, dict[str, float]] = {}
    for score in read_scores(RESULTS / "comparison" / "models" / "maesil" / "scores.jsonl"):
        if score.metric == "psnr" and score.model == "maesil + fusion":
            errors.setdefault(score.scan, {})[score.region] = 10 ** (-score.value / 10)
    assert len(errors) == 18
    for found in errors.values():
        visible_share = 1 - found["whole"] / found["masked"]
        assert -10 * math.log10((found["predicted"] - found["whole"]) / visible_share) > 30


@pytest.mark.parametrize(
    ("reading", "region", "model", "means"),
    [
        ("dual", "masked", "maesil + fusion", (18.50, 0.592, 0.349)),
        ("dual", "masked", "kriging", (16.99, 0.561, 0.383)),
        ("shared_plane", "masked", "maesil + fusion", (20.36, 0.630, 0.255)),
        ("shared_plane", "masked", "kriging", (20.10, 0.634, 0.270)),
        ("unmasked", "predicted", "maesil", (22.10, 0.799, 0.159)),
    ],
)
def test_readings__the_page_has_the_means_of_the_scores(
    reading: str, region: str, model: str, means: tuple[float, ...]
) -> None:
    folder = RESULTS / "readings"
    rows = [row for row in read_scores(folder / reading / "scores.jsonl") if (row.region, row.model) == (region, model)]
    for metric, stated, decimals in zip(("psnr", "ssim", "lpips"), means, (2, 3, 3), strict=True):
        values = [row.value for row in rows if row.metric == metric]
        assert len(values) == 9
        assert round(sum(values) / 9, decimals) == stated
    shown = f"| `{model}` | {means[0]:.2f} | {means[1]:.3f} | {means[2]:.3f} |"
    assert shown in (folder / "README.md").read_text()


def test_sampling__the_page_has_the_difference_of_the_scores() -> None:
    page = (RESULTS / "sampling" / "README.md").read_text()
    for model in ("maesil", "maesil + fusion"):
        differences, (low, high) = compared(SEAMLESS, "sampling/grid/scores.jsonl", model, model)
        assert f"{low:.2f} to {high:.2f}" in page
        assert f"{-sum(differences) / 9:.2f} dB" in page
        assert f"{sum(each > 0 for each in differences)} of 9" in page


def test_sharper__the_page_has_the_trials_of_1000_steps() -> None:
    page = (RESULTS / "sharper" / "README.md").read_text()
    plain = "maesil:model.fusion.width=0"
    trials = {
        "trunk of `demo`": ("plain", plain),
        "rotary positions": ("rotary", f"{plain}:rotary=true"),
        "inner levels": ("levels", f"{plain}:levels=true"),
        "mixed masks": ("mixed", f"{plain}:masking.name=mixed"),
        "EVA blocks": ("eva", f"{plain}:encoder_block=eva:encoder_heads=4:mlp_ratio=2.6666666666666665"),
        "registers": ("registers", "maesil:registers=4:model.fusion.width=0"),
        "constant superpatches": ("constants", "maesil:data.constant_share=0.02:model.fusion.width=0"),
        "relative levels": ("relative", "maesil:standardize=true:model.fusion.width=0"),
    }
    own = masked_by_scan(RESULTS / "sharper/thousand/plain/scores.jsonl", plain)
    for shown, (folder, model) in trials.items():
        file = f"sharper/thousand/{folder}/scores.jsonl"
        assert page_row(shown, file, model) in page
        if folder == "plain":
            continue
        found = masked_by_scan(RESULTS / file, model)
        gains = [value - own["psnr"][scan] for scan, value in found["psnr"].items()]
        gain = sum(gains) / len(gains)
        verb = "gain" if gain > 0 else "lose"
        assert f"{shown[0].upper()}{shown[1:]} {verb} {abs(gain):.2f} dB (" in page
        alike = sum((each > 0) == (gain > 0) for each in gains)
        assert f"on {alike} of 9" in page


def test_sharper__the_pages_have_the_means_of_the_scores() -> None:
    for shown, (trial, model) in {
        "`demo`, trunk": ("preset", "maesil"),
        "`overlap_add`, trunk": ("overlap_add", "maesil:head=overlap_add"),
        "`demo`, with the fusion": ("preset", "maesil + fusion"),
        "`overlap_add`, with the fusion": ("overlap_add", "maesil:head=overlap_add + fusion"),
        "`demo`, a large fusion on voxels": ("large_fusion", "maesil + fusion"),
        "SSIM in the trunk's loss, trunk": ("trunk_ssim", "maesil:ssim_weight=1"),
        "SSIM in the trunk's loss, with the fusion": ("trunk_ssim", "maesil:ssim_weight=1 + fusion"),
        "zoomed crops, trunk": ("zoom", "maesil"),
        "`demo`, mean over four flips": ("flips", "maesil + fusion"),
        "zoomed crops, with the fusion": ("zoom", "maesil + fusion"),
        "for comparison: `unet:ssim_weight=1`": ("unet", "unet:ssim_weight=1"),
    }.items():
        row = page_row(shown, f"sharper/{trial}/scores.jsonl", model)
        assert row in (RESULTS / "sharper" / "README.md").read_text()
        assert row in LAB.read_text()


def test_voxel_fusion__the_pages_have_the_means_of_the_scores() -> None:
    page = (RESULTS / "voxel_fusion" / "README.md").read_text()
    rows = {
        "`demo`, trunk": ("sharper/preset", "maesil"),
        "`demo`: its fusion on cells, 600 steps": ("sharper/preset", "maesil + fusion"),
        "`demo`: its fusion on cells, 2,500 steps": ("voxel_fusion/val/cells_2500", "maesil + fusion"),
        "the same trunk, fusion on voxels, 2,500 steps": ("voxel_fusion/val/first", "maesil + fusion"),
        "the same, 2,000 steps at a rate of 3e-3": ("voxel_fusion/val/fast", "maesil + fusion"),
        "`demo` with a fusion on voxels, 2,200 and 1,000 steps": ("voxel_fusion/val/equal_time", "maesil + fusion"),
        "`unet:ssim_weight=1`, 4,000 steps": ("sharper/unet", "unet:ssim_weight=1"),
        "`unet:ssim_weight=1` with 7.9 M parameters, 4,800 steps": ("voxel_fusion/val/wide_unet", "unet"),
    }
    for shown, (trial, model) in rows.items():
        row = page_row(shown, f"{trial}/scores.jsonl", model)
        assert row in page
        assert "the same" not in shown or row in LAB.read_text()
    trunks = [
        page_row("", f"{trial}/scores.jsonl", "maesil")
        for trial in ("sharper/preset", "voxel_fusion/val/first", "voxel_fusion/val/cells_2500")
    ]
    assert len(set(trunks)) == 1, "one trunk"


VOXEL_SEEDS = ("first", "second", "third")


def mean_by_scan(files: Sequence[Path], model: str) -> dict[str, dict[str, float]]:
    """`masked_by_scan` of several seeds, averaged."""
    seeds = [masked_by_scan(file, model) for file in files]
    return {
        metric: {scan: sum(seed[metric][scan] for seed in seeds) / len(seeds) for scan in values}
        for metric, values in seeds[0].items()
    }


def voxel_rows() -> dict[str, dict[str, dict[str, float]]]:
    """Scores of the page's rows on test patients, by name: means over seeds, by scan."""
    test, models = RESULTS / "voxel_fusion/test", RESULTS / "comparison/models"
    own = [test / seed / "scores.jsonl" for seed in VOXEL_SEEDS]

    def of(folder: str) -> list[Path]:
        return [models / folder / seed / "scores.jsonl" for seed in ("", "seed-1", "seed-2")]

    return {
        "ours": mean_by_scan(own, "maesil + fusion"),
        "trunk": mean_by_scan(own, "maesil"),
        "demo": mean_by_scan(of("maesil"), "maesil + fusion"),
        "unet": mean_by_scan(of("unet_ssim_weight=1"), "unet:ssim_weight=1"),
        "wide": mean_by_scan([test / "wide_unet/scores.jsonl"], "unet"),
        "kriging": mean_by_scan([models / "kriging/scores.jsonl"], "kriging"),
    }


def shown_means(row: dict[str, dict[str, float]]) -> tuple[str, str, str]:
    """PSNR, SSIM and LPIPS, to the digits that pages print."""
    psnr, ssim, lpips = (sum(row[metric].values()) / len(row[metric]) for metric in ("psnr", "ssim", "lpips"))
    return f"{psnr:.2f}", f"{ssim:.3f}", f"{lpips:.3f}"


def test_voxel_fusion__the_pages_have_the_test_patients() -> None:
    """Means over seeds, and differences from the rivals' means, with intervals over patients."""
    page = (RESULTS / "voxel_fusion" / "README.md").read_text()
    rows = voxel_rows()
    names = {
        "ours": "`demo` with a fusion on voxels: 3,400 and 2,500 steps | 3",
        "trunk": "its trunk alone | 3",
        "demo": "`demo`, 3,400 and 600 steps | 3",
        "wide": "`unet:ssim_weight=1` with 7.9 M parameters, 4,800 steps | 1",
        "unet": "`unet:ssim_weight=1`, 4,000 steps | 3",
        "kriging": "`kriging` | ",
    }
    for name, shown in names.items():
        assert f"| {shown} | {' | '.join(shown_means(rows[name]))} |" in page
    patients = {row.scan: row.patient for row in read_scores(RESULTS / "voxel_fusion/test/first/scores.jsonl")}
    for name, rival in {
        "wide": "the U-Net of 7.9 M parameters",
        "unet": "`unet:ssim_weight=1`",
        "demo": "`demo`",
        "kriging": "`kriging`",
    }.items():
        cells = []
        for metric, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3)):
            sign = -1 if metric == "lpips" else 1
            gains = [sign * (value - rows[name][metric][scan]) for scan, value in rows["ours"][metric].items()]
            low, high = patient_interval(gains, [patients[scan] for scan in rows["ours"][metric]])
            ahead = sum(gain > 0 for gain in gains)
            cells.append(f"{sum(gains) / 18:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}], {ahead}")
        assert f"| {rival} | {' | '.join(cells)} |" in page


def test_voxel_fusion__its_numbers_elsewhere_are_those_of_the_scores() -> None:
    rows = voxel_rows()
    ours, wide = (" | ".join(shown_means(rows[name])) for name in ("ours", "wide"))
    readme, lab, overview = README.read_text(), LAB.read_text(), (RESULTS / "README.md").read_text()
    bold = "**{}** | {} | **{}**".format(*shown_means(rows["ours"]))
    assert f"as its last stage (10.4 M parameters, 5,900 steps) | {bold} |" in readme
    assert f"about as much time as the row above, one seed) | {wide} |" in readme
    assert f"| `demo` with a fusion on voxels, three seeds | {ours} |" in lab
    assert f"| U-Net of 7.9 M parameters, SSIM in its loss | {wide} |" in lab
    assert "{} dB, SSIM {}, LPIPS {}".format(*shown_means(rows["ours"])) in overview
    assert (
        "({} dB, {}, {}, three seeds)".format(*shown_means(rows["ours"]))
        in (RESULTS / "comparison" / "README.md").read_text()
    )
    second = shown_means(mean_by_scan([RESULTS / "voxel_fusion/test/second/scores.jsonl"], "maesil + fusion"))
    card = (RESULTS.parent / "src/maesil/weights/sharp-2mm/README.md").read_text().replace("\n", " ")
    assert "{} dB, SSIM {}, LPIPS {};".format(*second) in card
    assert "as long: {} dB, {}, {}.".format(*shown_means(rows["wide"])) in card
    assert "20.8 MB | 25 scans, 2 mm | {} dB, SSIM {} (seed 1)".format(*second) in readme


def test_voxel_fusion__the_page_has_the_seconds_of_the_logs() -> None:
    page = (RESULTS / "voxel_fusion" / "README.md").read_text()
    for name, rows, said in (
        ("test/second", 590, "took {} s of a core"),
        ("test/wide_unet", 480, "7.9 M parameters {} s ("),
        ("val/equal_time", 320, "({} s of a core by the [log](val/equal_time/metrics.csv)"),
    ):
        with (RESULTS / "voxel_fusion" / name / "metrics.csv").open(newline="") as file:
            logged = [row for row in csv.DictReader(file) if row["superpatches_per_s"]]
        seconds = sum(80 / float(row["superpatches_per_s"]) for row in logged)
        assert len(logged) == rows
        assert said.format(f"{seconds:,.0f}") in page


def difference(
    ours: dict[str, dict[str, float]], other: dict[str, dict[str, float]], metric: str, digits: int
) -> tuple[str, str, int]:
    """By how much ours is better on scans of one patient each, the interval of that, and on how many scans it is."""
    sign = -1 if metric == "lpips" else 1
    gains = [sign * (value - other[metric][scan]) for scan, value in ours[metric].items()]
    low, high = patient_interval(gains, list(ours[metric]))
    interval = f"{low:.{digits}f} to {high:.{digits}f}"
    return f"{fmean(gains):.{digits}f}", interval, sum(gain > 0 for gain in gains)


def test_voxel_fusion__the_page_has_the_differences() -> None:
    """PSNR, SSIM and LPIPS against `demo` and against the U-Net: mean, interval over patients, scans ahead."""
    page = (RESULTS / "voxel_fusion" / "README.md").read_text().replace("\n", " ")
    ours = masked_by_scan(RESULTS / "voxel_fusion/val/first/scores.jsonl", "maesil + fusion")
    demo = masked_by_scan(RESULTS / "sharper/preset/scores.jsonl", "maesil + fusion")
    unet = masked_by_scan(RESULTS / "sharper/unet/scores.jsonl", "unet:ssim_weight=1")

    def told(other: dict[str, dict[str, float]], metric: str, digits: int) -> tuple[str, str, int]:
        return difference(ours, other, metric, digits)

    gain, interval, ahead = told(demo, "psnr", 2)
    assert f"it gains {gain} dB ({ahead} of 9 scans; 95 % interval over patients {interval})" in page
    for metric, name in (("ssim", "SSIM"), ("lpips", "LPIPS")):
        gain, interval, ahead = told(demo, metric, 3)
        assert f"{gain} in {name} ({ahead} of 9; {interval})" in page
    cells = masked_by_scan(RESULTS / "voxel_fusion/val/cells_2500/scores.jsonl", "maesil + fusion")
    gain, interval, ahead = told(cells, "psnr", 2)
    rest = [told(cells, metric, 3) for metric in ("ssim", "lpips")]
    assert f"the network: {gain} dB ({ahead} of 9; {interval}), {rest[0][0]} in SSIM and {rest[1][0]} in LPIPS" in page
    assert [ahead for _, _, ahead in rest] == [9, 9]
    short = masked_by_scan(RESULTS / "voxel_fusion/val/equal_time/scores.jsonl", "maesil + fusion")
    (psnr, within, ahead), (ssim, beside, _), (lpips, gained, _) = (
        difference(short, demo, metric, digits) for metric, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3))
    )
    low, high = within.replace("-", "").split(" to ")[::-1]
    assert f"by {psnr.removeprefix('-')} dB ({low} to {high}; on {9 - ahead} of 9 scans), level in SSIM" in page
    assert f"level in SSIM ({ssim}; {beside}), and {lpips} better in LPIPS ({gained})" in page
    gain, interval, ahead = told(unet, "psnr", 2)
    assert f"ahead in PSNR by {gain} dB ({ahead} of 9; {interval})" in page
    gain, interval, _ = told(unet, "ssim", 3)
    assert f"level in SSIM ({gain}; {interval})" in page
    gain, interval, _ = told(unet, "lpips", 3)
    assert f"in LPIPS ({gain} better; {interval})" in page


def test_sharper__one_step_at_the_full_rate_moves_the_trunk() -> None:
    page = (RESULTS / "sharper" / "README.md").read_text()
    before, after = (
        masked_by_scan(RESULTS / "sharper" / trial / "scores.jsonl", "maesil") for trial in ("preset", "moved_trunk")
    )
    loss = {metric: sum(before[metric][scan] - value for scan, value in after[metric].items()) / 9 for metric in after}
    assert f"costs the trunk {loss['psnr']:.2f} dB and {loss['ssim']:.3f} in SSIM" in page


def test_fusion_loss__the_pages_have_the_means_of_the_scores() -> None:
    page, notes = (path.read_text() for path in (RESULTS / "fusion_loss" / "README.md", LAB))
    for weight in (0, 1, 3):
        trial = f"fusion_loss/weight_{weight}/scores.jsonl" if weight else "readings/dual/scores.jsonl"
        row = page_row("", trial, "maesil + fusion").removeprefix("|  ")
        assert re.search(rf"^\| {weight} (\([^|]*\) )?{re.escape(row)}$", page, re.MULTILINE)
        assert f"| {weight} {row}" in notes
    differences, (low, high) = compared(
        "readings/dual/scores.jsonl", "fusion_loss/weight_1/scores.jsonl", "maesil + fusion", "maesil + fusion"
    )
    assert f"({low:.2f} to {high:.2f} dB)" in page
    assert abs(sum(differences) / 9) < 0.005


def test_demo__the_notes_have_the_scores() -> None:
    """Ours is first in every score of masked voxels, kriging included."""
    scores = json.loads((RESULTS / "demo.json").read_text())["scores"]
    found = {(row["model"], row["metric"]): row["value"] for row in scores if row["region"] == "masked"}
    shown = {
        "`demo`, 1,500 steps, trunk + fusion": "maesil + fusion",
        "its trunk alone, 1,275 steps": "maesil",
        "`kriging`": "kriging",
    }
    means = {
        model: [f"{found[model, name]:.{digits}f}" for name, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3))]
        for model in shown.values()
    }
    for name, model in shown.items():
        assert f"| {name} | {' | '.join(means[model])} |" in LAB.read_text()
    assert f"| with the fusion {means['maesil + fusion'][0]} dB" in (RESULTS / "README.md").read_text()
    lead = [found["maesil + fusion", name] - found["kriging", name] for name in ("psnr", "ssim", "lpips")]
    assert f"`demo` is {lead[0]:.2f} dB, {lead[1]:.3f} in SSIM and {-lead[2]:.3f} in LPIPS ahead" in LAB.read_text()
    for rival in ("kriging", "interpolation", "mean"):
        assert all(found["maesil + fusion", metric] > found[rival, metric] for metric in ("psnr", "ssim"))
        assert found["maesil + fusion", "lpips"] < found[rival, "lpips"]


def compared(file: str, other: str, model: str, others: str) -> tuple[list[float], tuple[float, float]]:
    """Masked PSNR of another model minus that of a model, by patient, and the interval of the mean."""
    values = {
        name: {row.patient: row.value for row in read_scores(RESULTS / path) if masked_psnr(row, which)}
        for name, path, which in (("one", file, model), ("other", other, others))
    }
    differences = [values["other"][patient] - value for patient, value in values["one"].items()]
    assert len(differences) == 9
    return differences, patient_interval(differences, list(values["one"]))


def page_row(shown: str, file: str, model: str) -> str:
    """A line of a page's table: PSNR, SSIM, LPIPS and seams of a model's masked voxels, means over scans."""
    found: dict[str, list[float]] = {}
    for row in read_scores(RESULTS / file):
        if (row.model, row.region) == (model, "masked"):
            found.setdefault(row.metric, []).append(row.value)
    means = {metric: sum(values) / len(values) for metric, values in found.items()}
    seams = ", ".join(f"{means[f'seams_{axis}']:.2f}" for axis in "spl")
    return f"| {shown} | {means['psnr']:.2f} | {means['ssim']:.3f} | {means['lpips']:.3f} | {seams} |"


def test_readme__has_the_means_of_three_seeds() -> None:
    """The table of results/README, README and the lab notes, to the digits that they print."""
    comparison = read_three_seeds()
    root = RESULTS.parent
    for model, name in {
        "unet:ssim_weight=1": "U-Net 3.1 M + SSIM: the same, of equal FLOPs per step as `demo`",
        "unet": "U-Net 3.1 M: the same, squared error alone in its loss",
        "maesil + fusion": "`demo`: our preset (2.5 M parameters, 1,216 s of a core)",
        PLAIN: "plain: `demo` with the paper's head, no fusion",
        "kriging": "kriging, nothing learnt",
        "interpolation": "interpolation",
    }.items():
        psnr, ssim, lpips = (masked_mean(comparison, model, metric) for metric in ("psnr", "ssim", "lpips"))
        assert f"| {name} | {psnr:.2f} | {ssim:.3f} | {lpips:.3f} |" in (root / "README.md").read_text()
    ours = [f"{masked_mean(comparison, 'maesil + fusion', metric):.3f}" for metric in ("ssim", "lpips")]
    rival = [f"{masked_mean(comparison, 'unet', metric):.3f}" for metric in ("ssim", "lpips")]
    assert f"LPIPS ({rival[1]} vs {ours[1]}," in (RESULTS / "README.md").read_text()
    assert f"SSIM ({ours[0]} vs {rival[0]}," in (RESULTS / "README.md").read_text()


def masked_mean(comparison: Comparison, model: str, metric: str) -> float:
    found = [s.value for s in comparison.scores if (s.model, s.metric, s.region) == (model, metric, "masked")]
    return sum(found) / len(found)


def masked_by_scan(file: Path, model: str) -> dict[str, dict[str, float]]:
    """PSNR, SSIM and LPIPS of a model's masked voxels, by scan."""
    found: dict[str, dict[str, float]] = {"psnr": {}, "ssim": {}, "lpips": {}}
    for row in read_scores(file):
        if (row.model, row.region) == (model, "masked") and row.metric in found:
            found[row.metric][row.scan] = row.value
    return found


def masked_psnr(row: Score, model: str) -> bool:
    return (row.model, row.metric, row.region) == (model, "psnr", "masked")


def test_transfer__the_lab_notes_have_the_trials_of_the_recipe() -> None:
    notes = LAB.read_text()
    for name in ("recipe", "recipe-unmarked"):
        for trial in json.loads((RESULTS / "transfer" / f"{name}.json").read_text())["trials"]:
            dice = sum(trial["dice"].values()) / len(trial["dice"])
            cells: list[object] = [trial["start"], trial["trained"]]
            if name == "recipe":
                cells += ["yes" if trial["augmented"] else "no", f"{trial['peak_lr']:g}", trial["steps"]]
                cells += [trial["decoder"], trial["seed"]]
            else:
                cells += [trial["feature_norm"], f"{trial['peak_lr']:g}"]
            assert f"| {' | '.join(map(str, cells))} | {dice:.3f} |" in notes


def test_transfer__the_lab_notes_have_what_longer_pre_training_gains() -> None:
    trials = json.loads((RESULTS / "transfer/recipe.json").read_text())["trials"]
    longer = [trial for trial in trials if trial["start"].startswith("pre-trained, 14,000 steps")]
    alike = {name: value for name, value in longer[0].items() if name not in ("start", "dice")}
    (before,) = (trial["dice"] for trial in trials if trial == {"start": "pre-trained", **alike, "dice": trial["dice"]})
    told = []
    for trial in longer:
        differences = [value - before[name] for name, value in trial["dice"].items()]
        low, high = patient_interval(differences, list(before))
        told.append(f"+ {sum(differences) / len(differences):.3f} ({low:.3f} to {high:.3f})")
    assert " and ".join(told) in LAB.read_text()


def test_transfer__pages_say_that_random_weights_catch_up() -> None:
    trials = json.loads((RESULTS / "transfer/recipe.json").read_text())["trials"]
    own, random = (trial["dice"] for trial in trials if trial["steps"] == 1600)
    differences = [value - random[name] for name, value in own.items()]
    low, high = patient_interval(differences, list(own))
    means = [sum(dice.values()) / len(dice) for dice in (own, random)]
    for page in ((RESULTS / "transfer" / "README.md"), README, LAB):
        assert f"{means[0]:.3f}" in page.read_text()
        assert f"vs {means[1]:.3f}" in page.read_text()
    assert f"({low:.3f} to {high:.3f}" in (RESULTS / "transfer" / "README.md").read_text()


def test_transfer__weights_and_readme_have_the_numbers_of_the_tables() -> None:
    """Dice of both starts and the interval of their difference, and what the encoder rebuilds of unseen patients."""
    root = RESULTS.parent
    card, readme = (root / "src/maesil/weights/headneck-4mm/README.md").read_text(), (root / "README.md").read_text()
    for line in (RESULTS / "transfer/headneck/table.md").read_text().splitlines():
        if not re.match(r"\| \d+ scans? \|", line):
            continue
        ours, theirs, difference = (cell.strip() for cell in line.split("|")[3:6])
        assert f"({ours[:5]} vs {theirs[:5]}" in readme
        if line.startswith(("| 1 scan ", "| 5 scans ")):
            low, high = re.findall(r"\+([\d.]+)", difference.split("[")[1])
            assert f"({low} to {high}" in card.replace("95 % interval of the difference ", "")
            assert ours[:5] in card
            assert theirs[:5] in card
    scores = read_scores(RESULTS / "transfer/reconstruction/scores.jsonl")
    means = {}
    for metric, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3)):
        for model in ("maesil", "kriging"):
            found = [s.value for s in scores if (s.model, s.metric, s.region) == (model, metric, "masked")]
            assert len(found) == 31
            means[model, metric] = f"{sum(found) / len(found):.{digits}f}"
    assert f"Kriging: {means['kriging', 'psnr']} dB, {means['kriging', 'ssim']}, {means['kriging', 'lpips']}." in card
    assert f"| {means['maesil', 'psnr']} dB, SSIM {means['maesil', 'ssim']} (no fusion) |" in readme


def test_transfer__the_pages_have_the_rows_of_the_table() -> None:
    page, overview = ((RESULTS / name).read_text() for name in ("transfer/README.md", "README.md"))
    lines = [
        line for line in (RESULTS / "transfer/headneck/table.md").read_text().splitlines() if line.startswith("| ")
    ]
    unet = [(RESULTS / f"transfer/unet/{name}.md").read_text() for name in ("one", "five")]
    for line in "\n".join(unet).splitlines():
        if line.startswith(("| 1 scan ", "| 5 scans ")):
            cells = [re.sub(r" ± [\d.]+", "", cell.strip()) for cell in line.split("|")[3:6]]
            assert f"Dice {cells[0]} | {cells[1]} | {cells[2]} |" in page
            assert cells[1][:5] in overview
    for line in lines[2:]:  # after the header
        cells = [re.sub(r" ± [\d.]+", "", cell.strip()) for cell in line.split("|")[3:6]]
        assert f"Dice {cells[0]} | {cells[1]} | {cells[2]} |" in page
        assert cells[2] in overview


def gains_by_seed(name: str) -> list[str]:
    """How much the pre-trained start gains in Dice in each of three seeds, with three decimals."""
    means: dict[tuple[str, int], float] = {}
    with (RESULTS / name / "scores.jsonl").open() as file:
        rows = [row for row in map(json.loads, file) if isinstance(row["dice"], float)]
    for start, seed in product(("pre-trained", "scratch"), range(3)):
        own = [row for row in rows if (row["start"], row["seed"]) == (start, seed)]
        scans = {row["scan"] for row in own}
        means[start, seed] = fmean(fmean(row["dice"] for row in own if row["scan"] == scan) for scan in sorted(scans))
    return [f"{means['pre-trained', seed] - means['scratch', seed]:.3f}" for seed in range(3)]


def test_transfer__the_pages_have_the_frozen_encoders() -> None:
    page = (RESULTS / "transfer/README.md").read_text()
    (line,) = (
        line for line in (RESULTS / "transfer/frozen/table.md").read_text().splitlines() if line.startswith("| 5 scans")
    )
    cells = [re.sub(r" ± [\d.]+", "", cell.strip()) for cell in line.split("|")[3:6]]
    assert f"| 5 patients | Dice {cells[0]} | {cells[1]} | {cells[2]} |" in page
    gains = gains_by_seed("transfer/frozen")
    told = f"{gains[0]}, {gains[1]} and {gains[2]}"
    for text in (page, LAB.read_text()):
        assert told in text
    for text in (README.read_text(), LAB.read_text()):
        assert f"{cells[0][:5]} vs {cells[1][:5]}" in text


def test_transfer__the_pages_have_the_longer_fine_tuning() -> None:
    table = (RESULTS / "transfer/longer/table.md").read_text()
    (line,) = (line for line in table.splitlines() if line.startswith("| 1 scan"))
    both, gain = [cell.strip()[:5] for cell in line.split("|")[3:5]], line.split("|")[5]
    found = re.fullmatch(r" \+(\S+) ± \S+ \[\+(\S+), \+(\S+)\] ", gain)
    assert found is not None
    mean, low, high = found.groups()
    page, lab = (RESULTS / "transfer/README.md").read_text(), LAB.read_text()
    assert f"{both[0]} vs {both[1]} on the same validation patients, +{mean} ({low} to {high};" in page
    assert f"{both[0]} vs {both[1]}, + {mean} ({low} to {high})" in lab
    for text in (README.read_text(), (RESULTS / "README.md").read_text()):
        assert f"and not with 1 ({both[0]} vs {both[1]}, three seeds; validation patients)" in text
    gains = gains_by_seed("transfer/longer")
    assert f"{gains[0]}, {gains[1]} and {gains[2]} in the three seeds" in page
    assert f"({gains[0]}, {gains[1]}, {gains[2]})" in lab


def test_transfer__the_pages_have_the_sarcoma() -> None:
    table = (RESULTS / "transfer/sarcoma/table.md").read_text()
    (line,) = (line for line in table.splitlines() if line.startswith("| 14 scans "))
    assert "| 1 x 16 |" in line
    cells = [re.sub(r" ± [\d.]+", "", cell.strip()) for cell in line.split("|")[3:6]]
    assert (
        f"| 14 patients | Dice {cells[0]} | {cells[1]} | {cells[2]} |" in (RESULTS / "transfer/README.md").read_text()
    )
    for text in ((RESULTS / "README.md").read_text(), LAB.read_text()):
        assert f"{cells[0][:5]} vs {cells[1][:5]}" in text


def superpatch_rows(name: str) -> dict[tuple[str, str], list[str]]:
    """The rows of a probe for organs in superpatches: probe and blocks to AUROC of both, and difference."""
    lines = (RESULTS / "transfer/features" / name / "table.md").read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.split("|")[3:8]] for line in lines if line.startswith("| organ | superpatch")
    ]
    return {(row[0], row[1]): row[2:] for row in rows}


def test_transfer__the_page_has_what_the_spread_of_tokens_adds() -> None:
    page, mean, spread = (
        (RESULTS / "transfer/README.md").read_text(),
        superpatch_rows("val"),
        superpatch_rows("val_spread"),
    )
    last, first, near = ("linear", "4"), ("5 nearest neighbours", "0"), ("5 nearest neighbours", "4")
    assert f"(block 4: {spread[last][0][:5]}, with the mean alone {mean[last][0][:5]})" in page
    assert f"({spread[first][0][:5]}, {mean[first][0][:5]})" in page
    assert f"(block 4: {spread[last][1][:5]} and {spread[near][1][:5]})" in page
    gains = {key: float(spread[key][0][:5]) - float(mean[key][0][:5]) for key in mean}
    assert f"{max(gain for (probe, _), gain in gains.items() if probe == 'linear'):.3f} in linear probes" in page
    assert all(row[2].startswith("-") for row in spread.values())
    assert sum(row[2].endswith(("-0.002]", "-0.017]", "-0.011]", "-0.013]")) for row in spread.values()) == 4


def region_rows(name: str) -> list[list[str]]:
    """The rows of a probe for the region at 2 mm: probe, blocks, AUROC of both, difference."""
    lines = (RESULTS / "transfer/region" / name / "table.md").read_text().splitlines()
    return [[cell.strip() for cell in line.split("|")[3:8]] for line in lines if line.startswith("| dataset |")]


def test_transfer__the_page_has_what_features_tell_of_the_region() -> None:
    page = (RESULTS / "transfer" / "README.md").read_text()
    for kind, blocks, own, random, difference in region_rows("demo_2mm"):
        shown = kind.removeprefix("5 ")
        assert f"| {shown} | {blocks} | {own[:5]} | {random[:5]} | {difference} |" in page
    behind = {
        name: sum(row[4].startswith("-") for row in region_rows(name)) for name in ("demo_2mm", "demo_2mm_groups")
    }
    assert f"behind random weights in {behind['demo_2mm']} of 10 rows" in page
    assert f"In groups, it is behind in {behind['demo_2mm_groups']}, beyond the interval in two" in page
    beyond = [sum(", -" in row[4] for row in region_rows(name)) for name in ("demo_2mm", "demo_2mm_groups")]
    assert beyond == [1, 2]
    found = {}
    for name in ("demo_third_seed", "plain_third_seed", "demo_third_seed_groups", "plain_third_seed_groups"):
        rows = region_rows(name)
        cells = [", ".join(row[2][:5] for row in rows if (row[0] == "linear") is linear) for linear in (True, False)]
        assert f"(region/{name}/table.md)) | {cells[0]} | {cells[1]} |" in page
        found[name] = [float(row[2][:5]) for row in rows]
    ahead = [ours > plain for ours, plain in zip(found["demo_third_seed"], found["plain_third_seed"], strict=True)]
    assert (sum(ahead[:5]), sum(ahead[5:])) == (4, 0)


def test_transfer__the_page_has_what_frozen_features_tell() -> None:
    """Rows of the probes, all at once and in groups, and in how many of them pre-training is ahead."""
    page, lab = (RESULTS / "transfer" / "README.md").read_text(), LAB.read_text()
    units = {"patch": "in a patch of 32 mm", "superpatch": "in a superpatch of 256 mm"}
    probes = {"linear": "linear", "5 nearest neighbours": "nearest neighbours"}
    ahead = {}
    for folder, part in zip(("test", "test_groups"), page.split("**In groups**"), strict=True):
        lines = (RESULTS / "transfer/features" / folder / "table.md").read_text().splitlines()
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| organ |")]
        assert len(rows) == 15
        ahead[folder] = sum(row[6].startswith("+") for row in rows)
        beyond = [row for row in rows if "[+" in row[6]]
        told = f"in {('no', 'one', 'two', 'three', 'four')[len(beyond)]} of "
        assert told + {"test": "the table's 15 rows", "test_groups": "them the interval excludes zero"}[folder] in page
        if folder == "test_groups":
            blocks = [row[3] for row in beyond]
            listed = f"{', '.join(blocks[:-1])} and {blocks[-1]}"
            assert {row[1] for row in beyond} == {"patch"}
            assert f"for patches after blocks {listed}, and behind" in page
            assert f"exclude zero in {len(beyond)} (patches after blocks {listed})" in lab
        known = [
            rf"\| {units[unit]}, {probes[kind]}, block {blocks}\b[^|]*\| "
            + re.escape(f"{own[:5]} | {random[:5]} | {difference} |")
            for _, unit, kind, blocks, own, random, difference in rows
        ]
        shown = [line for line in part.splitlines() if line.startswith("| in a ")]
        assert shown
        assert all(any(re.fullmatch(one, line) for one in known) for line in shown)
    assert f"higher in {ahead['test_groups']} of 15 rows" in page
    assert f"in {ahead['test_groups']} of 15 rows, where it was in\n{ahead['test']} without groups" in lab
