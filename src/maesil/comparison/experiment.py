"""Training every model of a comparison under one budget, one after the other, and scoring it; resumable by model."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from maesil.comparison.budget import Budget
from maesil.comparison.child import pretrain_apart
from maesil.comparison.measure import count_flops, measure, seconds_per_step
from maesil.comparison.result import VISIBLE, Cost, ModelResult
from maesil.comparison.scorer import Scorer, kept_scores, picture_path, pictures_folder
from maesil.comparison.spec import Spec
from maesil.config import RunConfig, changed_values, dump_yaml, from_dict, to_dict
from maesil.errors import ConfigError, MaesilError
from maesil.evaluation.constant_volumes import constant_note
from maesil.evaluation.notes import told_note
from maesil.evaluation.scores import Score
from maesil.files import write_json, write_text
from maesil.models import CEILINGS, UNTRAINED, Reconstructor, make_model
from maesil.progress import Progress
from maesil.runs.checkpoints import steps_done
from maesil.runs.claim import Differences, changed_settings, claim, differences_text
from maesil.runs.kinds import COMPARED, SCORES
from maesil.runs.load import default_device, load_run
from maesil.sampling.regions import Region
from maesil.training.devices import world_size

PROBE_STEPS = 16
"""Steps of the short run that measures the time per step."""
KEPT_RESULT = "entrant.json"
"""File with a finished model's entries and cost, next to its scores: with both, its run folder is no longer needed."""

Entered = tuple[ModelResult, tuple[Score, ...]]


@dataclass(frozen=True)
class Experiment:
    """What all models share, and where their results are kept.

    Attributes:
        preset: The masked autoencoder's run, whose settings all models share; its store is set.
        budget: Budget of each training.
        scorer: Scorer of the models.
        shown: Scans whose reconstructions are kept for pictures.
        out: The comparison's folder.
        console: Where progress is shown.
        seeds: Training runs per model, with consecutive seeds from the preset's.
    """

    preset: RunConfig
    budget: Budget
    scorer: Scorer
    shown: Sequence[Region]
    out: Path
    console: Console
    seeds: int = 1

    def settle(self) -> None:
        """Writes the shared settings into the folder, or checks that they agree with its earlier comparison's.

        Raises:
            ConfigError: The earlier comparison had other settings.
        """
        equal = {
            "budget": asdict(self.budget),
            "protocol": self.scorer.protocol.describe(),
            "scans": self.scorer.scans,
            "voxels": self.scorer.voxels,
            "sources": self.scorer.sources,
        }
        now = {**equal, "preset": to_dict(anywhere(self.preset))}
        fix = "compare with the same settings, or give another --out"
        claim(self.out / COMPARED, now, holds="a comparison", fix=fix, changed=self._changed)

    def _changed(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
        """The settings that differ; those that an earlier version did not record count as equal."""
        old, new = ({name: each[name] for name in now if name != "preset" and name in before} for each in (before, now))
        preset = from_dict(before["preset"], where=self.out)
        return {**changed_settings(old, new), **changed_values(preset, anywhere(self.preset))}

    def left_out(self, specs: Iterable[Spec]) -> tuple[str, ...]:
        """Folders of models that earlier calls scored in this comparison's folder, other than those of these models."""
        named = {spec.folder for spec in specs}
        scored = (path.parent.name for path in (self.out / "models").glob(f"*/{SCORES}"))
        return tuple(sorted(name for name in scored if name not in named))

    def enter(self, spec: Spec, progress: Progress | None) -> Entered:
        """Trains and scores one model with every seed, or reuses an earlier call's results.

        A failure is reported, not raised.
        """
        first = self.preset.seed
        seeds = range(first, first + self.seeds) if spec.trained else (first,)
        return merged([self._enter(spec, seed, progress) for seed in seeds])

    def _enter(self, spec: Spec, seed: int, progress: Progress | None) -> Entered:
        failure = self._folder(spec, seed) / "failure.txt"
        failure.unlink(missing_ok=True)
        try:
            return self._trained(spec, seed, progress) if spec.trained else self._untrained(spec, progress)
        except Exception as error:  # no failure may stop the other models
            reason = error.what if isinstance(error, MaesilError) else f"{type(error).__name__}: {error}"
            write_text(failure, traceback.format_exc())
            self.console.print(f"{spec.label} failed: {reason} (see {failure})", markup=False)
            return replace(self._result(spec, seed, {spec.label: VISIBLE}), failed=reason), ()

    def _untrained(self, spec: Spec, progress: Progress | None) -> Entered:
        kind = {**UNTRAINED, **CEILINGS}[spec.model]
        model = kind(self.preset.model.grid, self.scorer.masking).to(default_device())
        return self._scored(spec, 0, {spec.label: model}, "untrained", None, progress)

    def _trained(self, spec: Spec, seed: int, progress: Progress | None) -> Entered:
        config = self._budgeted(spec, seed)
        stamp = f"step {config.train.steps}"
        kept = self._kept(spec, seed, stamp)
        if kept is not None:
            return kept
        run = self._run(spec, seed)
        if steps_done(run) < config.train.steps:
            pretrain_apart(write_text(run / "wanted.yaml", dump_yaml(config)), run)
        loaded = load_run(run)
        cost = measure(loaded.model, loaded.config, self._flops(spec, config), run, config.train.steps)
        return self._scored(spec, seed, self.scorer.entries(spec.label, loaded.model), stamp, cost, progress)

    def _kept(self, spec: Spec, seed: int, stamp: str) -> Entered | None:
        """An earlier call's outcome, from only its scores and `KEPT_RESULT`; None if anything is missing."""
        folder = self._folder(spec, seed)
        try:
            record = json.loads((folder / KEPT_RESULT).read_text(encoding="utf-8"))
            entries, notes, cost = record["entries"], tuple(record["notes"]), Cost(**record["cost"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        scores = kept_scores(folder, self.scorer.mark(list(entries), stamp, seed))
        if scores is None:
            return None
        return replace(self._result(spec, seed, entries), notes=notes, cost=cost, stamp=stamp), scores

    def _scored(
        self,
        spec: Spec,
        seed: int,
        entries: Mapping[str, Reconstructor],
        stamp: str,
        cost: Cost | None,
        progress: Progress | None,
    ) -> Entered:
        folder = self._folder(spec, seed)
        scores = self.scorer.score(entries, folder, stamp, progress, seed)
        if seed == self.preset.seed or cost is None:
            for name, entry in entries.items():
                self.scorer.show(name, entry, self.shown, pictures_folder(folder, stamp))
        sees = {name: self.scorer.sees(entry) for name, entry in entries.items()}
        result = self._result(spec, seed, sees)
        own = list(entries.values())[-1]  # for an autoencoder, the one that sees only visible voxels
        shown = result.shown(list(entries)[-1])
        notes = (*told_note(shown, own), *constant_note(shown, own, self.scorer.protocol.window))
        if cost is not None:
            record = {"entries": sees, "notes": notes, "cost": asdict(cost)}
            write_json(folder / KEPT_RESULT, record)
        return replace(result, notes=notes, cost=cost, stamp=stamp), scores

    def _result(self, spec: Spec, seed: int, entries: Mapping[str, str]) -> ModelResult:
        run = self._run(spec, seed) if spec.trained else None
        seeds = (seed,) if spec.trained else ()
        return ModelResult(
            spec.label, spec.model, entries, title=spec.title, plain=not spec.settings, run=run, seeds=seeds
        )

    def pictures(self, results: Sequence[ModelResult]) -> dict[str, tuple[Path, str]]:
        """Row, as named in figures, to its pictures' folder and its name there.

        Rows without pictures, whose scores came from elsewhere, are left out.
        """
        kept = {}
        for result in results:
            folder = pictures_folder(self.out / "models" / Spec(result.label, result.model).folder, result.stamp)
            for row in result.entries:
                if self.shown and all(picture_path(folder, row, region).is_file() for region in self.shown):
                    kept[result.shown(row)] = (folder, row)
        return kept

    def _budgeted(self, spec: Spec, seed: int) -> RunConfig:
        """The model's run with the steps within the budget; decided once, so that a resumed run keeps them."""
        config, run = replace(spec.configure(self.preset), seed=seed), self._run(spec, seed)
        decided = self._folder(spec, seed) / "budget.json"
        if decided.is_file():
            before = json.loads(decided.read_text(encoding="utf-8"))
            changed = {
                **changed_settings({"budget": before["budget"]}, {"budget": asdict(self.budget)}),
                **changed_values(from_dict(before["config"], where=decided), anywhere(config)),
            }
            if changed:
                what = f"this model was trained with other settings: {differences_text(changed)}"
                raise ConfigError(what, where=run, fix="give another --out")
            return with_steps(config, before["steps"])
        steps = self._first_steps(spec, seed) or self.budget.steps(
            config.train,
            world_size(config.efficiency),
            seconds_per_step=self._probed(spec, config) if self.budget.unit == "seconds" else 0.0,
            flops=self._flops(spec, config) if self.budget.unit == "flops" else 0.0,
        )
        settled = {"budget": asdict(self.budget), "steps": steps, "config": to_dict(anywhere(config))}
        write_json(decided, settled)
        return with_steps(config, steps)

    def _first_steps(self, spec: Spec, seed: int) -> int | None:
        """The first seed's steps, which all seeds use; None if this is the first seed, or the steps are undecided."""
        decided = self._folder(spec, self.preset.seed) / "budget.json"
        if seed == self.preset.seed or not decided.is_file():
            return None
        return int(json.loads(decided.read_text(encoding="utf-8"))["steps"])

    def _flops(self, spec: Spec, config: RunConfig) -> float:
        """FLOPs per superpatch, counted only once: at the paper's size, it takes a step's time and memory."""
        path = self._folder(spec, self.preset.seed) / "flops.json"
        if not path.is_file():
            torch.manual_seed(config.seed)
            write_json(path, count_flops(make_model(config.model, config.masking)))
        return float(json.loads(path.read_text()))

    def _probed(self, spec: Spec, config: RunConfig) -> float:
        """Seconds per step, from a short run that is deleted afterwards."""
        run = self._folder(spec, self.preset.seed) / "probe"
        shutil.rmtree(run, ignore_errors=True)
        monitor = replace(config.monitor, validate_every=0, image_every=0, log_every=1, checkpoint_every=PROBE_STEPS)
        probe = replace(with_steps(config, PROBE_STEPS), monitor=monitor)
        self.console.print(f"{spec.label}: measuring the time per step", markup=False)
        pretrain_apart(write_text(run / "wanted.yaml", dump_yaml(probe)), run)
        seconds = seconds_per_step(run, config)
        shutil.rmtree(run)
        return seconds

    def _folder(self, spec: Spec, seed: int) -> Path:
        """A model's folder; folders of further seeds are inside the first one's."""
        first = self.out / "models" / spec.folder
        return first if seed == self.preset.seed or not spec.trained else first / f"seed-{seed}"

    def _run(self, spec: Spec, seed: int) -> Path:
        return self._folder(spec, seed) / "run"


def merged(outcomes: Sequence[Entered]) -> Entered:
    """Merges all seeds: time is the mean over trainings, memory their peak; a failure names its seed."""
    results = [result for result, _ in outcomes]
    done = [result for result in results if not result.failed]
    failed = [result for result in results if result.failed]
    first = done[0] if done else results[0]
    costs = [result.cost for result in done if result.cost is not None]
    cost = first.cost
    if cost is not None:
        seconds = sum(one.seconds for one in costs) / len(costs)
        cost = replace(cost, seconds=seconds, memory_gib=max(one.memory_gib for one in costs))
    reasons = [f"seed {one.seeds[0]}: {one.failed}" if len(results) > 1 else one.failed for one in failed]
    result = replace(
        first,
        run=results[0].run,
        cost=cost,
        seeds=tuple(seed for one in done for seed in one.seeds),
        failed="; ".join(map(str, reasons)) or None,
    )
    return result, tuple(score for _, scores in outcomes for score in scores)


def anywhere(config: RunConfig) -> RunConfig:
    """The run without its store's path, so that the comparison can continue on another machine."""
    return replace(config, data=replace(config.data, store=None))


def with_steps(config: RunConfig, steps: int) -> RunConfig:
    """The run with another length; it logs and validates at least ten times, so that curves can be plotted."""
    monitor = replace(config.monitor, log_every=max(1, min(config.monitor.log_every, steps // 10)))
    if monitor.validate_every:
        monitor = replace(monitor, validate_every=max(1, min(monitor.validate_every, steps // 10)))
    return replace(config, train=replace(config.train, steps=steps), monitor=monitor)
