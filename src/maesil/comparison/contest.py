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
from maesil.comparison.scoring import Judge
from maesil.comparison.spec import Spec
from maesil.config import RunConfig, changed_keys, dump_yaml, from_dict, to_dict
from maesil.errors import ConfigError, MaesilError
from maesil.evaluation.notes import told_note
from maesil.evaluation.runner import Progress
from maesil.evaluation.scores import Score
from maesil.models import UNTRAINED, Pretrainer, make_model
from maesil.runs import default_device, load, steps_done
from maesil.sampling.regions import Region
from maesil.training.devices import world_size

PROBE_STEPS = 16
"""Of the short run that tells what a step costs here."""

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
    """

    preset: RunConfig
    budget: Budget
    judge: Judge
    shown: Sequence[Region]
    out: Path
    console: Console

    def settle(self) -> None:
        """Writes down what is equal for all; or checks that the folder's earlier comparison had the same.

        Raises:
            ConfigError: It had other settings.
        """
        equal = {
            "budget": asdict(self.budget),
            "protocol": self.judge.protocol.describe(),
            "scans": self.judge.scans,
        }
        path = self.out / "comparison.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name, value in equal.items() if before[name] != value]
            changed += changed_keys(from_dict(before["preset"], where=path), self.preset)
            if changed:
                raise ConfigError(
                    f"this folder holds a comparison with other settings: {', '.join(changed)}",
                    where=self.out,
                    fix="compare with the same settings, or give another --out",
                )
        self.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**equal, "preset": to_dict(self.preset)}, indent=1) + "\n", encoding="utf-8")

    def enter(self, spec: Spec, progress: Progress | None) -> Outcome:
        """Trains and scores one model, or takes up what an earlier call has done; a failure is told, not raised."""
        failure = self._folder(spec) / "failure.txt"
        failure.unlink(missing_ok=True)
        try:
            return self._trained(spec, progress) if spec.trained else self._untrained(spec, progress)
        except Exception as error:  # whatever it is, it must not take the other models' rows with it
            reason = error.what if isinstance(error, MaesilError) else f"{type(error).__name__}: {error}"
            self._write(failure, traceback.format_exc())
            self.console.print(f"{spec.label} failed: {reason} (see {failure})", markup=False)
            return replace(self._entrant(spec, {spec.label: VISIBLE}), failed=reason), ()

    def _untrained(self, spec: Spec, progress: Progress | None) -> Outcome:
        model = UNTRAINED[spec.model](self.preset.model.grid, self.preset.masking).to(default_device())
        return self._scored(spec, {spec.label: model}, "untrained", None, progress)

    def _trained(self, spec: Spec, progress: Progress | None) -> Outcome:
        config = self._budgeted(spec)
        run = self._run(spec)
        if steps_done(run) < config.train.steps:
            pretrain_apart(self._write(run / "wanted.yaml", dump_yaml(config)), run)
        loaded = load(run)
        cost = measure(loaded.model, loaded.config, self._flops(spec, config), run)
        entries = self.judge.entries(spec.label, loaded.model)
        return self._scored(spec, entries, f"step {steps_done(run)}", cost, progress)

    def _scored(
        self, spec: Spec, entries: Mapping[str, Pretrainer], stamp: str, cost: Cost | None, progress: Progress | None
    ) -> Outcome:
        folder = self._folder(spec)
        scores = self.judge.score(entries, folder, stamp, progress)
        for name, entry in entries.items():
            self.judge.show(name, entry, self.shown, folder / stamp.replace(" ", "-"))
        entrant = self._entrant(spec, {name: self.judge.sees(entry) for name, entry in entries.items()})
        notes = told_note(entrant.shown(spec.label), next(iter(entries.values())))
        return replace(entrant, notes=notes, cost=cost), scores

    def _entrant(self, spec: Spec, entries: Mapping[str, str]) -> Entrant:
        run = self._run(spec) if spec.trained else None
        return Entrant(spec.label, spec.model, entries, title=spec.title, plain=not spec.settings, run=run)

    def pictures(self, entrants: Sequence[Entrant]) -> dict[str, tuple[Path, str]]:
        """Row, as figures name it, to the folder that keeps its pictures and its name there."""
        kept = {}
        for entrant in entrants:
            stamp = "untrained" if entrant.run is None else f"step-{steps_done(entrant.run)}"
            folder = self.out / "models" / Spec(entrant.label, entrant.model).folder / stamp
            kept.update({entrant.shown(row): (folder, row) for row in entrant.entries if not entrant.failed})
        return kept

    def _budgeted(self, spec: Spec) -> RunConfig:
        """The model's run with the steps that the budget buys; decided once, so that a resumed run keeps them."""
        config, run = spec.configure(self.preset), self._run(spec)
        decided = self._folder(spec) / "budget.json"
        if decided.is_file():
            before = json.loads(decided.read_text(encoding="utf-8"))
            changed = changed_keys(from_dict(before["config"], where=decided), config)
            if changed or before["budget"] != asdict(self.budget):
                differs = ", ".join(changed) or "budget"
                raise ConfigError(f"it was trained here with another {differs}", where=run, fix="give another --out")
            return with_steps(config, before["steps"])
        steps = self.budget.steps(
            config.train,
            world_size(config.efficiency),
            seconds_per_step=self._probed(spec, config) if self.budget.unit == "seconds" else 0.0,
            flops=self._flops(spec, config) if self.budget.unit == "flops" else 0.0,
        )
        decided.parent.mkdir(parents=True, exist_ok=True)
        settled = {"budget": asdict(self.budget), "steps": steps, "config": to_dict(config)}
        decided.write_text(json.dumps(settled, indent=1) + "\n", encoding="utf-8")
        return with_steps(config, steps)

    def _flops(self, spec: Spec, config: RunConfig) -> float:
        """Counted once: at the paper's size it takes a step's time and memory."""
        path = self._folder(spec) / "flops.json"
        if not path.is_file():
            torch.manual_seed(config.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(count_flops(make_model(config.model, config.masking))))
        return float(json.loads(path.read_text()))

    def _probed(self, spec: Spec, config: RunConfig) -> float:
        """Seconds of a step, from a short run that is thrown away."""
        run = self._folder(spec) / "probe"
        shutil.rmtree(run, ignore_errors=True)
        monitor = replace(config.monitor, validate_every=0, image_every=0, log_every=1, checkpoint_every=PROBE_STEPS)
        probe = replace(with_steps(config, PROBE_STEPS), monitor=monitor)
        self.console.print(f"{spec.label}: measuring what a step takes", markup=False)
        pretrain_apart(self._write(run / "wanted.yaml", dump_yaml(probe)), run)
        seconds = seconds_per_step(run, config)
        shutil.rmtree(run)
        return seconds

    def _folder(self, spec: Spec) -> Path:
        return self.out / "models" / spec.folder

    def _run(self, spec: Spec) -> Path:
        return self._folder(spec) / "run"

    @staticmethod
    def _write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


def with_steps(config: RunConfig, steps: int) -> RunConfig:
    """The run with another length; it logs and validates at least ten times, so that curves can be drawn."""
    monitor = replace(config.monitor, log_every=max(1, min(config.monitor.log_every, steps // 10)))
    if monitor.validate_every:
        monitor = replace(monitor, validate_every=max(1, min(monitor.validate_every, steps // 10)))
    return replace(config, train=replace(config.train, steps=steps), monitor=monitor)
