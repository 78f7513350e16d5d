"""The command `probe`: how much frozen features tell about organs and datasets, next to features of random weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import torch

from maesil.catalog import NONE
from maesil.counts import some_of
from maesil.encoder.pool import Pool
from maesil.encoder.start import flags_of, starting_point
from maesil.encoder.tokens import TOGETHER
from maesil.errors import ConfigError, EmptySplitError, StoreError
from maesil.evaluation.sheet import sheet_to_csv, sheet_to_markdown
from maesil.files import AnyPath, write_json_lines, write_text
from maesil.models.backbone import Backbone
from maesil.progress import Progress
from maesil.runs.kinds import PROBE, SCORES
from maesil.runs.load import default_device
from maesil.runs.lock import locked
from maesil.sampling.config import DataConfig
from maesil.sampling.holdout import scan_splits
from maesil.sampling.labelled import Classes, annotated
from maesil.sampling.regions import regions_of
from maesil.seen import seen_note
from maesil.shapes import Shape3
from maesil.store.scanstore import ScanStore
from maesil.tasks.probe.answers import PRETRAINED, Answer, answers_of, questions
from maesil.tasks.probe.samples import Parts, Targets, samples_of
from maesil.tasks.probe.tables import ends_of, probe_sheet


@dataclass(frozen=True)
class Probed:
    """The result of `probe`.

    Attributes:
        answers: One per question, depth and start.
        table: The table in Markdown.
        folder: The folder with table.md, table.csv and scores.jsonl.
    """

    answers: tuple[Answer, ...]
    table: str
    folder: Path


def probe(
    run: str | Path,
    store: AnyPath,
    out: AnyPath,
    *,
    classes: Sequence[str] = (),
    split: str = "test",
    starts: int = 3,
    groups: tuple[int, int] = TOGETHER,
    pool: Pool = "mean",
    progress: Progress | None = None,
) -> Probed:
    """Asks frozen features which organs and which dataset a superpatch or a patch is of; random weights are asked too.

    Probes are trained on the training patients of the store's split. The features of every depth are asked: organs in a
    superpatch and its dataset from pooled tokens (linear and k nearest neighbours), organs in a patch from its token
    (linear).

    Args:
        run: The encoder, anything `maesil.load` accepts.
        store: Store with labels, or with several datasets.
        out: Folder for the table and the scores, created if absent.
        classes: Organs; none: all that every labelled scan names. Of a scan in which some are not marked, only the
            others are asked.
        split: Split to test on: "val" or "test".
        starts: Number of random starts to compare with.
        groups: Blocks of planes and parts of each plane that are encoded apart, for all starts: (2, 2) shows the
            encoder as many tokens at once as a dual mask of 75 % did.
        pool: What a superpatch's vector keeps of its tokens: their "mean", or "mean_std", their mean and standard
            deviation.
        progress: Called after every scan.

    Raises:
        ConfigError: No encoder is given, a class is unknown, the voxels differ from the pre-training's, or the tokens
            cannot be divided into these groups.
        StoreError: The store has neither labels nor several datasets, or a split has no scan.
    """
    if str(run) == NONE or starts < 1:
        raise ConfigError("a pre-trained encoder is compared with random starts", fix="give a run, and --starts 1")
    if split == "train":
        raise ConfigError("probes are trained on the split 'train', which cannot test them", fix="give val or test")
    scans, out = ScanStore(Path(store)), Path(out)
    backbone, card = starting_point(str(run), "", scans, random_start=False)
    targets, parts = _asked_of(scans, classes, split, backbone.config.superpatch)
    counted = _counted(progress, (1 + starts) * (len(parts[0]) + len(parts[1])))
    with locked(out, PROBE):
        ask = partial(_answers, store=scans, targets=targets, parts=parts, groups=groups, pool=pool, progress=counted)
        answers = list(ask(backbone, PRETRAINED))
        for seed in range(starts):
            torch.manual_seed(seed)
            backbone, _ = starting_point(str(run), "", scans, random_start=True)
            answers += ask(backbone, f"random {seed}")
        notes = [seen_note(card.seen, parts[1], whom="tested")]
        if groups != TOGETHER:
            notes.append(f"Tokens were encoded in {groups[0]} x {groups[1]} groups: blocks of planes, parts of planes.")
        if not targets.organs.names:
            notes.append("No organ was asked for: the store has no labels (maesil prepare --labels).")
        sheet = probe_sheet(answers, targets, parts, split, notes, pool=pool)
        write_json_lines(out / SCORES, _rows(answers))
        write_text(out / "table.csv", sheet_to_csv(sheet))
        write_text(out / "table.md", sheet_to_markdown(sheet))
    return Probed(tuple(answers), sheet_to_markdown(sheet), out)


def _asked_of(store: ScanStore, classes: Sequence[str], split: str, superpatch: Shape3) -> tuple[Targets, Parts]:
    """What can be asked of a store, and its training and test scans."""
    labelled = any(entry.labels is not None for entry in store.entries)
    everything = tuple(entry.scan_id for entry in store.entries)
    organs, scans = Classes(()), everything
    if labelled or classes:
        organs, scans = annotated(store, classes, partial=bool(classes))
    data, among = DataConfig(padded_crops=False), frozenset(scans)
    try:
        train, test = (
            tuple(region.entry for region in regions_of(store, data, superpatch, name) if region.entry.scan_id in among)
            for name in ("train", split)
        )
    except EmptySplitError as error:
        raise _with_own_advice(error, store, split) from None
    if not train or not test:
        named = some_of(organs.names, separator=" or " if classes else " and ")
        which = f"scan that marks {named}" if named else "scan"
        raise StoreError(
            f"no {which} is in the split '{split if train else 'train'}'",
            where=store.path,
            fix="name other --classes, give another --split, or prepare more patients",
        )
    datasets = tuple(sorted({entry.dataset for entry in train}))
    if not organs.names and len(datasets) < 2:
        raise StoreError(
            "there is nothing to ask: the store has no labels, and its training scans are of one dataset",
            where=store.path,
            fix="prepare the scans with --labels",
        )
    return Targets(organs, datasets if len(datasets) > 1 else ()), (train, test)


def _with_own_advice(error: EmptySplitError, store: ScanStore, split: str) -> EmptySplitError:
    """The error of a split without patients with advice for a probe, which takes no settings of a split."""
    filled = set(scan_splits(store, DataConfig().holdout).values())
    empty = next((name for name in ("train", split) if name not in filled), None)
    if empty is None:  # its scans have no superpatch, which no other split would mend
        return error
    patients = len({entry.patient for entry in store.entries})
    if patients > 2:
        labels = " --labels" if any(entry.labels is not None for entry in store.entries) else ""
        fix = (
            f"assign patients to it, and prepare the scans again: maesil datasets SCANS --splits.overrides PATIENT "
            f"{empty} --out LIST.json, then maesil prepare LIST.json{labels} --out STORE "
            f"{flags_of(store.manifest['settings'])}"
        )
    else:
        other = "; or give --split test" if patients == 2 and split == "val" else ""
        fix = f"prepare three patients or more, so that every split has one{other}"
    return EmptySplitError(error.what, where=error.where, fix=fix)


def _answers(
    backbone: Backbone,
    start: str,
    *,
    store: ScanStore,
    targets: Targets,
    parts: Parts,
    groups: tuple[int, int],
    pool: Pool,
    progress: Progress | None,
) -> Iterator[Answer]:
    backbone = backbone.eval().to(default_device())
    train, test = (
        samples_of(backbone, store, part, targets, groups=groups, pool=pool, progress=progress) for part in parts
    )
    for asked, names, pick in questions(targets):
        yield from answers_of(asked, names, pick(train), pick(test), range(backbone.depth + 1), start)


def _rows(answers: Sequence[Answer]) -> Iterator[dict[str, object]]:
    for answer in answers:
        low, high = ends_of(answer.resampled)
        asked = {"target": answer.asked.target, "unit": answer.asked.unit, "probe": answer.asked.probe}
        measured = {"auroc": answer.auroc, "low": low, "high": high, "each": answer.each}
        measured |= {"penalty": answer.penalty}
        yield {**asked, "depth": answer.depth, "start": answer.start, **measured}


def _counted(progress: Progress | None, total: int) -> Progress | None:
    """Counts the scans of all starts as one work."""
    if progress is None:
        return None
    done = count(1)
    return lambda _number, _scans, name: progress(next(done), total, name)
