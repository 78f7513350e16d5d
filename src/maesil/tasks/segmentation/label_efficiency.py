"""Does pre-training help? One task from a pre-trained encoder and from random weights, with few labels and many.

Both starts have the same architecture, take the same steps over the same labelled superpatches in the same order, and
are scored on the same scans. Each is trained as suits it: lower blocks of a pre-trained encoder learn more slowly,
random ones as fast as the rest, and with `rates` each start gets the learning rate that is best for it on the
validation patients. Every amount is repeated with several seeds, for label subset, decoder weights and data order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from maesil.catalog import NONE
from maesil.encoder.load import load_with_card
from maesil.encoder.source import absolute_source
from maesil.encoder.start import digest_of, seen_notes
from maesil.errors import ConfigError, MaesilError, OutputError
from maesil.files import AnyPath, write_json
from maesil.progress import Progress, scan_bar
from maesil.runs.claim import Differences, changed_settings, claim
from maesil.runs.kinds import EXPERIMENT, LABEL_EFFICIENCY
from maesil.runs.lock import locked
from maesil.seen import seen_note
from maesil.store.location import is_there
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation.arms import STARTS, Arm, arm_of, require_own_settings
from maesil.tasks.segmentation.config import FinetuneConfig, ScratchConfig, completed, to_dict
from maesil.tasks.segmentation.label_efficiency_page import write_results
from maesil.tasks.segmentation.network import Segmenter
from maesil.tasks.segmentation.rates import choose_rates, require_validation
from maesil.tasks.segmentation.score import score_segmentation
from maesil.tasks.segmentation.train import Ready, classes_text, finetune_segmentation, ready_to_train
from maesil.tasks.segmentation.trials import Amount, Experiment, Trial
from maesil.tasks.unread import refuse_in_segmentation
from maesil.training.checkpoint_folder import checkpoint_folder, read_config
from maesil.version import commit


def compare_transfer(
    config: FinetuneConfig,
    amounts: Sequence[Amount],
    seeds: int,
    out: AnyPath,
    *,
    scratch: ScratchConfig | None = None,
    rates: Sequence[float] = (),
    console: Console | None = None,
    progress: Progress | None = None,
) -> tuple[Experiment, Path]:
    """Runs the experiment and writes table, curve and page; finished trials of an earlier call are kept.

    Args:
        config: Common settings, and the pre-trained encoder's own: `config.init` must name one.
        amounts: Amounts of labels, smallest first.
        seeds: Number of repetitions.
        out: The output folder, created if absent.
        scratch: Settings that differ for random weights; None: `ScratchConfig`'s defaults.
        rates: Peak learning rates to try. Each start uses the one with the best Dice on the validation patients, in
            one training with the last of `amounts`; test patients are not used. One rate: both starts use it; none:
            `config.train` and `scratch` decide.
        console: Where trainings show their progress.
        progress: Called after every trial.

    Returns:
        The trials with their settings, and the path of the page. If a trial fails, its `failed` has the reason, and the
        others continue.

    Raises:
        ConfigError: No encoder or amounts are given, no store or several are, a setting would be ignored, fewer scans
            are labelled than an amount needs, there is no patient to choose a rate on, the store's voxels differ from
            the pre-training's, or the folder contains another experiment.
        StoreError: The store has no labels, or no labelled scan to train or to test on.
        TrainingError: A start fails at every rate.
        OutputError: A file cannot be written.
    """
    out, config = Path(out), replace(config, init=absolute_source(config.init))
    if config.init == NONE:
        raise ConfigError("there is nothing to compare with", fix="--init RUN, a pre-trained encoder")
    if not amounts or seeds < 1:
        raise ConfigError("no amounts of labels, or no seeds", fix="--scans 1 2 5, or --shares 0.1 0.3 1.0; --seeds 1")
    amounts = tuple(dict.fromkeys(amounts))  # a trial that is asked for twice counts once
    scratch = scratch or ScratchConfig()
    require_own_settings(config, scratch, rates)
    arms = {start: arm_of(config, scratch, start, rates) for start in STARTS}
    for amount, start in product(amounts, STARTS):
        refuse_in_segmentation(arms[start].settings(replace(config, labels=amount.limit(config.labels))))
    searched = len(rates) > 1
    ready = _require_trainable(config, arms, amounts, out, searched=searched)
    if console is not None:
        console.print(classes_text(ready), markup=False)
    with locked(out, LABEL_EFFICIENCY):
        _settle(config, scratch, rates, amounts, out)
        search = None
        if searched:
            last = replace(config, labels=amounts[-1].limit(config.labels))
            search = choose_rates(last, arms, rates, str(amounts[-1]), out / "rates", console=console)
            arms = {start: replace(arm, peak_lr=search.chosen[start]) for start, arm in arms.items()}
        planned = [(amount, seed, start) for amount in amounts for seed in range(seeds) for start in STARTS]
        trials = []
        for number, (amount, seed, start) in enumerate(planned, start=1):
            trials.append(_trial(config, amount, seed, arms[start], out, console))
            if progress is not None:
                progress(number, len(planned), f"{amount}, seed {seed}, {start}")
            shown = to_dict(config)
            shown["data"].pop("store")
            shown["data"].pop("window")  # the encoder's
            shown["init"] = "the pre-trained encoder"
            experiment = Experiment(tuple(trials), shown, commit(), arms, search, _seen(config, trials, out))
            page = write_results(experiment, out)
        return experiment, page


def _require_trainable(
    config: FinetuneConfig, arms: Mapping[str, Arm], amounts: Sequence[Amount], out: Path, *, searched: bool
) -> Ready:
    """What the largest training needs; raises at once what would fail a trial hours later."""
    most = max(amounts, key=lambda amount: amount.scans or 0)
    config = replace(config, labels=most.limit(config.labels))
    ready = ready_to_train(arms[STARTS[0]].settings(config), begun=(out / EXPERIMENT).is_file())
    for arm in arms.values():  # a decoder may not fit the encoder's patches
        Segmenter(ready.backbone, len(ready.classes), arm.settings(config).model)
    if searched:
        require_validation(ready)
    return ready


def _run(amount: Amount, seed: int, start: str, out: Path) -> Path:
    return out / "runs" / amount.folder / f"{start}-{seed}"


def _seen(config: FinetuneConfig, trials: Sequence[Trial], out: Path) -> tuple[str, ...]:
    """How many test patients the encoder was trained on, by a pre-trained trial's checkpoint or by the encoder."""
    scored = [trial for trial in trials if trial.start == STARTS[0] and trial.rows]
    if not scored or config.data.store is None:
        return ()
    trial = scored[-1]
    try:
        store = ScanStore(config.data.store)
        entries = [store.entry(scan) for scan in dict.fromkeys(str(row["scan"]) for row in trial.rows)]
        record = _record_of(_run(trial.amount, trial.seed, trial.start, out), config.init)
    except MaesilError:  # scores are kept even if checkpoints or a scan are gone
        return (seen_note(None, ()),)
    return seen_notes(record, entries)


def _record_of(run: Path, init: str) -> Mapping[str, Any]:
    """A trial's record or, if its checkpoint is gone, what it would say of the encoder."""
    try:
        return read_config(checkpoint_folder(run))
    except MaesilError:
        return {"encoder": {"seen": load_with_card(init)[1].seen}}


def _trial(config: FinetuneConfig, amount: Amount, seed: int, arm: Arm, out: Path, console: Console | None) -> Trial:
    start = arm.start
    run = _run(amount, seed, start, out)
    scored = run / "scored.json"
    if scored.is_file():
        return Trial(amount, start, seed, tuple(json.loads(scored.read_text(encoding="utf-8"))))
    own = arm.settings(replace(config, seed=seed, labels=amount.limit(config.labels)))
    try:
        outcome = finetune_segmentation(own, run, console=console, name_classes=False)
        if outcome.status == "interrupted":
            raise KeyboardInterrupt
        with scan_bar(console or Console(quiet=True), "scoring") as shown:
            rows = score_segmentation(run, progress=shown).rows
    except OutputError:
        raise  # the next trials would fail, too
    except MaesilError as error:
        return Trial(amount, start, seed, failed=str(error))
    write_json(scored, rows)
    return Trial(amount, start, seed, rows)


def _settle(
    config: FinetuneConfig, scratch: ScratchConfig, rates: Sequence[float], amounts: Sequence[Amount], out: Path
) -> None:
    """Claims the folder: amounts and seeds may be added, but not shared settings or the choice of rates changed."""
    common = to_dict(replace(config, labels=replace(config.labels, scans=None, share=None)))
    for means in ("efficiency", "monitor", "seed", "random_start"):
        common.pop(means)
    common |= {"scratch": asdict(scratch), "rates": list(rates)}
    common["rates_chosen_on"] = str(amounts[-1]) if len(rates) > 1 else None
    common["encoder"] = digest_of(load_with_card(config.init)[0])
    common["data"]["store"] = _fingerprint(common["data"]["store"])

    def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Differences:
        before = completed(before)
        before["data"]["store"] = _fingerprint(before["data"]["store"])
        before["init"] = absolute_source(before["init"])
        before = {"encoder": common["encoder"], **before}  # up to version 0.2.0, none was recorded
        if before.get("rates_chosen_on") == amounts[-1].rounded:  # of that version
            before["rates_chosen_on"] = now["rates_chosen_on"]
        return changed_settings(before, now)

    fix = "give another --out, or the same settings"
    claim(out / EXPERIMENT, common, holds="an experiment", fix=fix, changed=changed)


def _fingerprint(store: str) -> str:
    """The fingerprint of a store; of a fingerprint, itself: experiments of version 0.2 have a path in its place."""
    return ScanStore(store).fingerprint if is_there(Path(store)) else store
