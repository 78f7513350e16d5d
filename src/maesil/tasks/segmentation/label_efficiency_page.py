"""Output files of a label-efficiency experiment: table, curve, every score, one page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maesil.evaluation.intervals import patient_interval
from maesil.evaluation.sheet import Sheet, sheet_to_csv, sheet_to_latex, sheet_to_markdown
from maesil.files import write_json, write_json_lines, write_text
from maesil.runs.kinds import SCORES
from maesil.tasks.segmentation.arms import STARTS
from maesil.tasks.segmentation.tables import INTERVALS, mean_cell, mean_of, tested_note, tested_on
from maesil.tasks.segmentation.trials import Experiment, Trial

COLOURS = {"pre-trained": "#0072b2", "scratch": "#d55e00"}
MARKERS = {"pre-trained": "o", "scratch": "s"}


def write_results(experiment: Experiment, out: Path) -> Path:
    """Writes table.md, .tex, .csv, curve.png, scores.jsonl, settings.json and index.html.

    Returns:
        Path of the page.
    """
    sheet, figure = efficiency_sheet(experiment.trials), efficiency_figure(experiment.trials)
    sheet = replace(sheet, notes=(*sheet.notes, *trained_as(experiment), *experiment.notes))
    for name, text in (("md", sheet_to_markdown(sheet)), ("tex", sheet_to_latex(sheet)), ("csv", sheet_to_csv(sheet))):
        write_text(out / f"table.{name}", text)
    FigureCanvasAgg(figure)
    figure.savefig(out / "curve.png", dpi=130)
    write_json_lines(out / SCORES, rows_of(experiment.trials))
    search = None if experiment.search is None else asdict(experiment.search)
    arms = {start: asdict(arm) for start, arm in experiment.arms.items()}
    settings = {"commit": experiment.commit, "settings": experiment.settings, "arms": arms, "search": search}
    write_json(out / "settings.json", settings)
    return write_text(out / "index.html", _html(sheet, out / "curve.png", experiment))


def trained_as(experiment: Experiment) -> list[str]:
    """Sentences on how each start was trained, and how its learning rate was chosen."""
    arms = "; ".join(str(arm) for arm in experiment.arms.values())
    chosen = "Learning rates were given, not chosen." if experiment.search is None else experiment.search.sentence()
    return [f"Each start has its own training settings. {arms[:1].upper()}{arms[1:]}.", chosen]


def amounts_of(trials: Sequence[Trial]) -> list[str]:
    """The amounts, in the order they were tried."""
    return list(dict.fromkeys(str(trial.amount) for trial in trials))


def rows_of(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The scores of all trials: a row per trial, scan and class."""
    return [
        {"amount": str(trial.amount), "start": trial.start, "seed": trial.seed, **row}
        for trial in trials
        for row in trial.rows
    ]


def dice_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """The mean Dice of a scan's classes, as a frame with the columns amount, start, seed, scan, patient and dice.

    A class that is neither present nor predicted does not count; a scan with no other class has no row.
    """
    names = ["amount", "start", "seed", "scan", "patient"]
    rows = pd.DataFrame(rows_of(trials), columns=[*names, "dice"])
    return rows.groupby(names, sort=False)["dice"].agg(mean_of).dropna().reset_index()


def paired_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """The mean Dice of a scan's classes, with a column per start and their difference, `gain`.

    Where an amount has seeds and scans with a score from both starts, only these are kept: otherwise the means of the
    two starts would be over different trainings, and would not differ by the mean gain.
    """
    names = ["amount", "seed", "scan", "patient"]
    both = dice_frame(trials).pivot(index=names, columns="start", values="dice").reindex(columns=STARTS)
    both = both.assign(gain=both["pre-trained"] - both["scratch"]).reset_index()
    alone = both["gain"].isna()
    paired = both.loc[~alone, "amount"].unique()
    return both[~(alone & both["amount"].isin(paired))]


def _left_out(trials: Sequence[Trial]) -> list[str]:
    """What the cells leave out, because the other start was not scored."""
    kept = {(row.amount, row.seed) for row in paired_frame(trials).itertuples()}
    alone = [trial.name for trial in trials if trial.rows and (str(trial.amount), trial.seed) not in kept]
    return [f"Left out, as the other start has no scores for this seed: {'; '.join(alone)}."] if alone else []


def _tested(trials: Sequence[Trial]) -> list[str]:
    """What was held out, for every kind of trial: with fewer labelled scans, more patients are unseen."""
    return list(dict.fromkeys(tested_note(trial.rows) for trial in trials if trial.rows))


def efficiency_sheet(trials: Sequence[Trial]) -> Sheet:
    """A row per amount: Dice of both starts, and their difference, paired by seed and scan."""
    both = paired_frame(trials)
    rows = []
    for amount in amounts_of(trials):
        own = both[both["amount"] == amount]
        signs = {**dict.fromkeys(STARTS, ""), "gain": "+"}
        cells = (mean_cell(own[name], own["patient"], 3, sign) for name, sign in signs.items())
        rows.append((amount, f"{own['seed'].nunique()} x {own['scan'].nunique()}", *cells))
    failed = [f"{trial.name} failed: {' '.join(trial.failed.split())}" for trial in trials if trial.failed]
    notes = (
        *_tested(trials),
        f"Cells: Dice, mean of the classes of a scan, then mean ± standard deviation over seeds and scans {INTERVALS}. "
        "Both starts take the same steps over the same labelled superpatches.",
        "A patient is resampled with all its scans and seeds: the intervals show the uncertainty of the mean over "
        "these seeds, not how far other seeds would lie from it.",
        *_left_out(trials),
        *failed,
    )
    header = ("labelled", "seeds x scans", "pre-trained", "scratch", "pre-trained - scratch")
    return Sheet(header, rows, notes, title=f"Label efficiency: Dice on {tested_on(rows_of(trials))}")


def efficiency_figure(trials: Sequence[Trial]) -> Figure:
    """Dice against the amount of labels for both starts, with intervals and every seed's mean."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    amounts, both = amounts_of(trials), paired_frame(trials)
    for offset, start in ((-0.06, "pre-trained"), (0.06, "scratch")):
        places, means, lows, highs = [], [], [], []
        for amount, found in both.dropna(subset=[start]).groupby("amount", sort=False):
            low, high = patient_interval(found[start], found["patient"])
            places.append(amounts.index(amount) + offset)
            means.append(found[start].mean())
            lows.append(means[-1] - low)
            highs.append(high - means[-1])
            own = found.groupby("seed")[start].mean()
            axes.plot([places[-1]] * len(own), own, ".", color=COLOURS[start], alpha=0.35, markersize=5)
        axes.errorbar(places, means, [lows, highs], color=COLOURS[start], marker=MARKERS[start], label=start, capsize=3)
    axes.set(xticks=range(len(amounts)), xlabel="labelled", ylabel=f"Dice on {tested_on(rows_of(trials))}")
    axes.set_xticklabels(amounts)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def _html(sheet: Sheet, curve: Path, experiment: Experiment) -> str:
    files = resources.files("maesil")
    text = (files / "tasks" / "segmentation" / "label_efficiency.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(text)
    picture = base64.b64encode(io.BytesIO(curve.read_bytes()).getvalue()).decode("ascii")
    return template.render(
        sheet=sheet,
        tested=tested_on(rows_of(experiment.trials)),
        curve=f"data:image/png;base64,{picture}",
        settings=_flat(experiment.settings),
        commit=experiment.commit,
        style=(files / "report" / "page.css").read_text(encoding="utf-8"),
    )


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", str(value))]
    return found
