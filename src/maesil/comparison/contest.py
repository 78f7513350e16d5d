"""Trains every model of a comparison under one budget, one after the other, and scores it; resumable by model."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from maesil.comparison.budget import Budget
from maesil.comparison.child import pretrain_apart
from maesil.comparison.measure import count_flops, measure, seconds_per_step
from maesil.comparison.result import VISIBLE, Cost, Entrant
from maesil.comparison.scoring import Judge, kept_scores, picture_path, pictures_folder
from maesil.comparison.spec import Spec
from maesil.config import RunConfig, changed_keys, dump_yaml, from_dict, to_dict
from maesil.errors import ConfigError, MaesilError
from maesil.evaluation.constant_volumes import constant_note
from maesil.evaluation.notes import told_note
from maesil.evaluation.runner import Progress
from maesil.evaluation.scores import Score
from maesil.models import CEILINGS, UNTRAINED, Reconstructor, make_model
from maesil.runs import default_device, load, steps_done
from maesil.sampling.regions import Region
from maesil.training.devices import world_size

PROBE_STEPS = 16
"""Steps of the short run that tells what a step costs here."""
ENTRANT = "entrant.json"
"""What a finished model is and took, beside its scores: with them, its run folder is no longer needed."""

Outcome = tuple[Entrant, tuple[Score, ...]]


@dataclass(frozen=True)
class Contest:
    """What is equal for all models, and where they are kept.

    Attributes:
        preset: The run of the masked autoencoder that all models stand beside; its store is set.
        budget: Of every training.
        judge: Scores them.
        shown: Scans whose reconstructions are kept for pictures.
        out: The comparison's folder.
        console: Where progress is told.
        seeds: Trainings of every model, with consecutive seeds from the preset's.
    """

    preset: RunConfig
    budget: Budget
    judge: Judge
    shown: Sequence[Region]
    out: Path
    console: Console
    seeds: int = 1

    def settle(self) -> None:
        """Writes down what is equal for all; or checks that the folder's earlier comparison had the same.

        Raises:
            ConfigError: It had other settings.
        """
        equal = {
            "budget": asdict(self.budget),
            "protocol": self.judge.protocol.describe(),
            "scans": self.judge.scans,
            "voxels": self.judge.voxels,
            "sources": self.judge.sources,
        }
        path = self.out / "comparison.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name, value in equal.items() if before.get(name, value) != value]
            changed += changed_keys(from_dict(before["preset"], where=path), anywhere(self.preset))
            if changed:
                raise ConfigError(
                    f"this folder holds a comparison with other settings: {', '.join(changed)}",
                    where=self.out,
                    fix="compare with the same settings, or give another --out",
                )
        self.out.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({**equal, "preset": to_dict(anywhere(self.preset))}, indent=1) + "\n", encoding="utf-8"
        )

    def enter(self, spec: Spec, progress: Progress | None) -> Outcome:
        """Trains and scores one model with every seed, or takes up what an earlier call has done.

        A failure is told, not raised.
        """
        first = self.preset.seed
        seeds = range(first, first + self.seeds) if spec.trained else (first,)
        return merged([self._enter(spec, seed, progress) for seed in seeds])

    def _enter(self, spec: Spec, seed: int, progress: Progress | None) -> Outcome:
        failure = self._folder(spec, seed) / "failure.txt"
        failure.unlink(missing_ok=True)
        try:
            return self._trained(spec, seed, progress) if spec.trained else self._untrained(spec, progress)
        except Exception as error:  # whatever it is, it must not take the other models' rows with it
            reason = error.what if isinstance(error, MaesilError) else f"{type(error).__name__}: {error}"
            self._write(failure, traceback.format_exc())
            self.console.print(f"{spec.label} failed: {reason} (see {failure})", markup=False)
            return replace(self._entrant(spec, seed, {spec.label: VISIBLE}), failed=reason), ()

    def _untrained(self, spec: Spec, progress: Progress | None) -> Outcome:
        kind = {**UNTRAINED, **CEILINGS}[spec.model]
        model = kind(self.preset.model.grid, self.judge.masking).to(default_device())
        return self._scored(spec, 0, {spec.label: model}, "untrained", None, progress)

    def _trained(self, spec: Spec, seed: int, progress: Progress | None) -> Outcome:
        config = self._budgeted(spec, seed)
        stamp = f"step {config.train.steps}"
        kept = self._kept(spec, seed, stamp)
        if kept is not None:
            return kept
        run = self._run(spec, seed)
        if steps_done(run) < config.train.steps:
            pretrain_apart(self._write(run / "wanted.yaml", dump_yaml(config)), run)
        loaded = load(run)
        cost = measure(loaded.model, loaded.config, self._flops(spec, config), run)
        return self._scored(spec, seed, self.judge.entries(spec.label, loaded.model), stamp, cost, progress)

    def _kept(self, spec: Spec, seed: int, stamp: str) -> Outcome | None:
        """What an earlier call came to, from its scores and `ENTRANT` alone; None where anything is missing."""
        folder = self._folder(spec, seed)
        try:
            record = json.loads((folder / ENTRANT).read_text(encoding="utf-8"))
            entries, notes, cost = record["entries"], tuple(record["notes"]), Cost(**record["cost"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        scores = kept_scores(folder, self.judge.mark(list(entries), stamp, seed))
        if scores is None:
            return None
        return replace(self._entrant(spec, seed, entries), notes=notes, cost=cost, stamp=stamp), scores

    def _scored(
        self,
        spec: Spec,
        seed: int,
        entries: Mapping[str, Reconstructor],
        stamp: str,
        cost: Cost | None,
        progress: Progress | None,
    ) -> Outcome:
        folder = self._folder(spec, seed)
        scores = self.judge.score(entries, folder, stamp, progress, seed)
        if seed == self.preset.seed or cost is None:
            for name, entry in entries.items():
                self.judge.show(name, entry, self.shown, pictures_folder(folder, stamp))
        sees = {name: self.judge.sees(entry) for name, entry in entries.items()}
        entrant = self._entrant(spec, seed, sees)
        own = list(entries.values())[-1]  # of an autoencoder the one that sees the visible voxels only
        shown = entrant.shown(list(entries)[-1])
        notes = (*told_note(shown, own), *constant_note(shown, own, self.judge.protocol.window))
        if cost is not None:
            record = {"entries": sees, "notes": notes, "cost": asdict(cost)}
            self._write(folder / ENTRANT, f"{json.dumps(record, indent=1)}\n")
        return replace(entrant, notes=notes, cost=cost, stamp=stamp), scores

    def _entrant(self, spec: Spec, seed: int, entries: Mapping[str, str]) -> Entrant:
        run = self._run(spec, seed) if spec.trained else None
        seeds = (seed,) if spec.trained else ()
        return Entrant(spec.label, spec.model, entries, title=spec.title, plain=not spec.settings, run=run, seeds=seeds)

    def pictures(self, entrants: Sequence[Entrant]) -> dict[str, tuple[Path, str]]:
        """Row, as figures name it, to the folder that keeps its pictures and its name there.

        Rows without pictures, whose scores came from elsewhere, are left out.
        """
        kept = {}
        for entrant in entrants:
            folder = pictures_folder(self.out / "models" / Spec(entrant.label, entrant.model).folder, entrant.stamp)
            for row in entrant.entries:
                if self.shown and all(picture_path(folder, row, region).is_file() for region in self.shown):
                    kept[entrant.shown(row)] = (folder, row)
        return kept

    def _budgeted(self, spec: Spec, seed: int) -> RunConfig:
        """The model's run with the steps that the budget buys; decided once, so that a resumed run keeps them."""
        config, run = replace(spec.configure(self.preset), seed=seed), self._run(spec, seed)
        decided = self._folder(spec, seed) / "budget.json"
        if decided.is_file():
            before = json.loads(decided.read_text(encoding="utf-8"))
            changed = changed_keys(from_dict(before["config"], where=decided), anywhere(config))
            if changed or before["budget"] != asdict(self.budget):
                differs = ", ".join(changed) or "budget"
                raise ConfigError(f"it was trained here with another {differs}", where=run, fix="give another --out")
            return with_steps(config, before["steps"])
        steps = self._first_steps(spec, seed) or self.budget.steps(
            config.train,
            world_size(config.efficiency),
            seconds_per_step=self._probed(spec, config) if self.budget.unit == "seconds" else 0.0,
            flops=self._flops(spec, config) if self.budget.unit == "flops" else 0.0,
        )
        decided.parent.mkdir(parents=True, exist_ok=True)
        settled = {"budget": asdict(self.budget), "steps": steps, "config": to_dict(anywhere(config))}
        decided.write_text(json.dumps(settled, indent=1) + "\n", encoding="utf-8")
        return with_steps(config, steps)

    def _first_steps(self, spec: Spec, seed: int) -> int | None:
        """The steps of the first seed's training, for all seeds alike; None where that is this one, or not decided."""
        decided = self._folder(spec, self.preset.seed) / "budget.json"
        if seed == self.preset.seed or not decided.is_file():
            return None
        return int(json.loads(decided.read_text(encoding="utf-8"))["steps"])

    def _flops(self, spec: Spec, config: RunConfig) -> float:
        """Counted once: at the paper's size it takes a step's time and memory."""
        path = self._folder(spec, self.preset.seed) / "flops.json"
        if not path.is_file():
            torch.manual_seed(config.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(count_flops(make_model(config.model, config.masking))))
        return float(json.loads(path.read_text()))

    def _probed(self, spec: Spec, config: RunConfig) -> float:
        """Seconds of a step, from a short run that is thrown away."""
        run = self._folder(spec, self.preset.seed) / "probe"
        shutil.rmtree(run, ignore_errors=True)
        monitor = replace(config.monitor, validate_every=0, image_every=0, log_every=1, checkpoint_every=PROBE_STEPS)
        probe = replace(with_steps(config, PROBE_STEPS), monitor=monitor)
        self.console.print(f"{spec.label}: measuring what a step takes", markup=False)
        pretrain_apart(self._write(run / "wanted.yaml", dump_yaml(probe)), run)
        seconds = seconds_per_step(run, config)
        shutil.rmtree(run)
        return seconds

    def _folder(self, spec: Spec, seed: int) -> Path:
        """A model's folder; further seeds have theirs below the first one's."""
        first = self.out / "models" / spec.folder
        return first if seed == self.preset.seed or not spec.trained else first / f"seed-{seed}"

    def _run(self, spec: Spec, seed: int) -> Path:
        return self._folder(spec, seed) / "run"

    @staticmethod
    def _write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """One entrant of all seeds: its time is the trainings' mean, its memory their peak; a failure names its seed."""
    entrants = [entrant for entrant, _ in outcomes]
    done = [entrant for entrant in entrants if not entrant.failed]
    failed = [entrant for entrant in entrants if entrant.failed]
    first = done[0] if done else entrants[0]
    costs = [entrant.cost for entrant in done if entrant.cost is not None]
    cost = first.cost
    if cost is not None:
        seconds = sum(one.seconds for one in costs) / len(costs)
        cost = replace(cost, seconds=seconds, memory_gib=max(one.memory_gib for one in costs))
    reasons = [f"seed {one.seeds[0]}: {one.failed}" if len(entrants) > 1 else one.failed for one in failed]
    entrant = replace(
        first,
        run=entrants[0].run,
        cost=cost,
        seeds=tuple(seed for one in done for seed in one.seeds),
        failed="; ".join(map(str, reasons)) or None,
    )
    return entrant, tuple(score for _, scores in outcomes for score in scores)


def anywhere(config: RunConfig) -> RunConfig:
    """The run without its store's path: the same comparison can go on on another machine."""
    return replace(config, data=replace(config.data, store=None))


def with_steps(config: RunConfig, steps: int) -> RunConfig:
    """The run with another length; it logs and validates at least ten times, so that curves can be drawn."""
    monitor = replace(config.monitor, log_every=max(1, min(config.monitor.log_every, steps // 10)))
    if monitor.validate_every:
        monitor = replace(monitor, validate_every=max(1, min(monitor.validate_every, steps // 10)))
    return replace(config, train=replace(config.train, steps=steps), monitor=monitor)
