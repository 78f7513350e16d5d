"""`maesil compare`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro
from pydantic import PositiveInt

from maesil.commands.early import value_of
from maesil.commands.parsing import Settings, console, lists, parse, print_json
from maesil.commands.pretrain import with_fusion, with_masking
from maesil.comparison.budget import parse_budget
from maesil.comparison.model_sets import MODEL_SETS, ModelSet
from maesil.comparison.spec import parse_models
from maesil.config import RunConfig
from maesil.errors import ConfigError
from maesil.evaluation.protocol import Protocol
from maesil.masking import MASKINGS
from maesil.models import CEILINGS, MODELS, UNTRAINED
from maesil.presets import PRESETS
from maesil.screen import scan_bar


@lists(model_sets=MODEL_SETS, presets=PRESETS, models=(*MODELS, *UNTRAINED, *CEILINGS), maskings=MASKINGS)
@dataclass(frozen=True)
class Compare:
    """Train models under one budget, score them under one protocol, and write tables, figures and a page.

    A model is a name with optional settings, such as vae:kl_per_voxel=1 or maesil:masking.name=uniform; the names are
    {models}. Or --preset names a whole comparison: {model_sets}. --beside PRESET sets what all models share (data,
    batch, superpatches): {presets}; its settings are flags, as in `maesil pretrain`. Values of --masking.name:
    {maskings}. The same command resumes, model by model. Exit status 1: a model failed.

    Examples:
      maesil compare store --models maesil,ae,vae,vqvae,slice_mae,interpolation --budget steps=20000 --out compared
      maesil compare store --preset ablation-masking --beside demo --budget seconds=600 --out ablation
      maesil compare store --models maesil,ae,ae:latent_channels=6 --budget flops=1e17 --beside paper --out sizes
    """

    config: Settings[RunConfig]
    """The settings that all models share."""
    store: tyro.conf.Positional[Path | None] = None
    """The prepared store."""
    out: Path | None = None
    """The folder to write or to resume."""
    budget: str = "steps=20000"
    """Budget of each training: steps=N, seconds=N or flops=N."""
    models: tuple[str, ...] = ()
    """The models; ours comes first. Without --models and --preset, those of --preset paper-table."""
    preset: str | None = None
    """A whole comparison, in place of --models. Without either, paper-table."""
    beside: str = "base"
    """The preset whose settings all models share."""
    split: Literal["train", "val", "test"] = "test"
    """The split to score."""
    protocol: Protocol = field(default_factory=Protocol)
    """What is scored, and how."""
    pictures: int = 3
    """Number of scans whose reconstructions the page shows."""
    seeds: PositiveInt = 1
    """Training runs per model, with consecutive seeds from --seed; scores are averaged over them."""
    json: bool = False
    """Print the outcome as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Runs or resumes a comparison."""
    preset = with_fusion(by_patient(PRESETS[value_of(words, "--beside") or "base"]()), words)
    preset = with_masking(preset, words)
    call = parse(Compare, "compare", words, Compare(config=preset))
    if call.store is None:
        fix = "give it first, without a flag: maesil compare STORE --out DIR ..."
        raise ConfigError("no store is given", fix=fix)
    if call.out is None:
        raise ConfigError("no output folder is given", fix="add --out DIR")
    from maesil import pipeline
    from maesil.comparison.standing import standing

    preset = replace(call.config, data=replace(call.config.data, store=call.store))
    screen = console()
    with scan_bar(screen, "scoring") as progress:
        comparison, page = pipeline.compare(
            preset,
            _lineup(call.preset, call.models, preset),
            parse_budget(call.budget),
            call.out,
            split=call.split,
            protocol=call.protocol,
            pictures=call.pictures,
            seeds=call.seeds,
            command=shlex.join(("maesil", "compare", *words)),
            console=screen,
            progress=progress,
        )
    failed = {result.label: result.failed for result in comparison.results if result.failed}
    screen.print(f"page: {page}", markup=False)
    for label, reason in failed.items():
        screen.print(f"failed: {label}: {reason}", markup=False)
    if call.json:
        print_json({"page": page, "failed": failed, "verdict": standing(comparison)})
    else:
        print((page.parent / "table2.md").read_text(encoding="utf-8"))  # noqa: T201 (the result)
    return 1 if failed else 0


def by_patient(preset: RunConfig) -> RunConfig:
    """Returns the preset with whole patients held out (`demo` has only one) and padded crops, as scans are padded."""
    holdout = replace(preset.data.holdout, by="patient")
    return replace(preset, data=replace(preset.data, padded_crops=True, holdout=holdout))


def _lineup(named: str | None, models: Sequence[str], preset: RunConfig) -> ModelSet:
    if named is not None and models:
        raise ConfigError("--preset and --models both select the models", fix="give only one of them")
    if named is not None:
        return MODEL_SETS[named](preset)
    return ModelSet("Models compared", parse_models(models)) if models else MODEL_SETS["paper-table"](preset)
