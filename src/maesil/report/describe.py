"""The description of a run, for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import maesil
from maesil.evaluation.tables import Table
from maesil.models.contract import LastStage
from maesil.report.case import Case
from maesil.report.page import Curve, Page
from maesil.report.repeat import preset_changes
from maesil.store.settings import voxels
from maesil.training.logs import curve
from maesil.version import software


def run_page(
    run: Path,
    record: Mapping[str, Any],
    network: Mapping[str, str],
    stage: LastStage | None,
    parameters: int,
    table: Table,
    cases: Sequence[Case],
    caution: str,
    commands: Sequence[str],
) -> Page:
    """The page of a run.

    Args:
        run: The run folder, for its logs.
        record: Contents of the checkpoint's config.json.
        network: The model's parts, in words.
        stage: The part that learns alone at the end of the run, with a loss of its own; None: there is none.
        parameters: Number of the model's parameters.
        table: The scores.
        cases: Scans to show.
        caution: Warning about what the scores do not show; may be empty.
        commands: Commands that repeat the run and make the page.
    """
    config = record["config"]
    model, masking = config["model"], config["masking"]
    size = "x".join(map(str, model["superpatch"]))
    subtitle = (
        f"preset {config['preset']}, {record['step']} steps, superpatches of {size} voxels, {masking['name']} masking, "
        f"{parameters / 1e6:.1f} M parameters"
    )
    return Page(
        title="MAESIL: masked 3D CT, rebuilt",
        subtitle=subtitle,
        caution=caution,
        facts=_facts(record, network, parameters),
        sheet=replace(table.sheet, best=table.best),
        curves=curves_of(run / "logs" / "metrics.csv", stage, config["train"]["steps"], config.get("lengthened", ())),
        cases=cases,
        commands=commands,
    )


def _facts(record: Mapping[str, Any], network: Mapping[str, str], parameters: int) -> dict[str, dict[str, str]]:
    config = record["config"]
    model, masking, train, data = (config[part] for part in ("model", "masking", "train", "data"))
    hidden = ", ".join(
        f"{key.replace('_', ' ')} {_share(key, value)}" for key, value in masking.items() if key != "name"
    )
    patches = " x ".join(str(s // p) for s, p in zip(model["superpatch"], model["patch"], strict=True))
    return {
        "Data": {
            "scans": ", ".join(f"{name}: {count}" for name, count in record["datasets"].items()),
            "voxels": f"{voxels(record['prepare'])}, orientation {record['prepare']['orientation']}",
            "HU window": f"[{data['window']['low_hu']:g}, {data['window']['high_hu']:g}]",
            "held out by": data["holdout"]["by"],
            "sampling": data["sampling"],
        },
        "Model": {
            "patches": f"{patches} of {'x'.join(map(str, model['patch']))} voxels",
            **network,
            "parameters": f"{parameters:,}",
            "masking": f"{masking['name']}: {hidden}",
        },
        "Training": {
            "steps": f"{record['step']:,} of {train['steps']:,}",
            "batch": f"{train['batch']} x {train['accumulate']} per device",
            "learning rate": str(train["peak_lr"] or f"{train['base_lr']} x batch / 256"),
            "seed": str(config["seed"]),
        },
        "Software of the training": {
            "maesil": f"{record['maesil']}" + (f" ({record['commit']})" if record["commit"] else ""),
            **record.get("software", {}),
        },
        "Software of this page": {"maesil": maesil.__version__, **software()},
        **_changes(config),
    }


def _changes(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The settings that differ from the preset's, for readers who do not have the run's config.yaml."""
    changed = preset_changes(config)
    return {f"Changed from the preset {config['preset']}": changed} if changed else {}


def _share(setting: str, value: Any) -> str:
    return f"{value:.0%}" if setting.endswith("ratio") else str(value)


def curves_of(
    log: Path, stage: LastStage | None, steps: int, lengthened: Sequence[tuple[int, int]] = ()
) -> list[Curve]:
    """The loss of the network, that of its last stage, which is another measure, and the held-out score.

    Args:
        log: The run's log.
        stage: The last stage; None: there is none.
        steps: Steps of the run.
        lengthened: Steps at which the run was made longer, and its length before.
    """
    loss, score = list(zip(*curve(log, "loss"), strict=True)), curve(log, "val_psnr_masked")
    # A row is the mean over the steps since the one before it, and belongs to neither part if these are of both.
    since = {step: last for last, step in pairwise([0, *(step for step, _ in loss)])}
    stages = [] if stage is None else [(stage.first_step(length), end) for end, length in (*lengthened, (steps, steps))]

    def alone(step: int) -> bool:
        return any(first < step <= end for first, end in stages)

    def is_pure(step: int) -> bool:
        return alone(since[step] + 1) == alone(step)

    parts = {"training loss": [row for row in loss if not alone(row[0]) and is_pure(row[0])]}
    if stage is not None:
        parts[f"training loss of the {stage.name}"] = [row for row in loss if alone(row[0]) and is_pure(row[0])]
    losses = [
        Curve(title, [step for step, _ in rows], [value for _, value in rows], unit="standardised units")
        for title, rows in parts.items()
        if rows
    ]
    return [*losses, Curve("held-out masked PSNR", *score, unit="dB")]
