"""Scores of one model of a comparison, kept beside it, so that no scan is rebuilt twice."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maesil.evaluation.protocol import Protocol
from maesil.evaluation.rebuild import RebuiltScan
from maesil.evaluation.runner import Progress, held_out, rebuild_region, score_models
from maesil.evaluation.scores import Score, read_scores, write_scores
from maesil.masking import Masking
from maesil.models import Pretrainer
from maesil.models.slice_mae import SliceMAE
from maesil.report.case import Case
from maesil.sampling.regions import Region
from maesil.store.scanstore import ScanStore

OWN = "own masks"
"""How tables name a model that is scored under the masks it was trained with, where others are scored under others."""


@dataclass(frozen=True)
class Judge:
    """What is equal for all models.

    Attributes:
        store: Holds the scans.
        regions: The held-out part of each scan.
        protocol: What is scored, and how.
        masking: Which tokens are hidden.
    """

    store: ScanStore
    regions: tuple[Region, ...]
    protocol: Protocol
    masking: Masking

    def entries(self, label: str, model: Pretrainer) -> dict[str, Pretrainer]:
        """The rows of a model: under the comparison's masks; and under its own, where these are others."""
        rows = dict(model.entries(label))
        common = {name: under(entry, self.masking) for name, entry in rows.items()}
        if model.masking == self.masking or isinstance(model, SliceMAE):
            return common
        return {**common, **{f"{name}, {OWN}": entry for name, entry in rows.items() if not entry.sees_all}}

    def score(
        self, entries: Mapping[str, Pretrainer], folder: Path, stamp: str, progress: Progress | None
    ) -> tuple[Score, ...]:
        """The scores of a model's rows; read from `folder` where they lie there from the same weights and protocol.

        Args:
            entries: Row to what rebuilds.
            folder: Where scores are kept.
            stamp: Names the weights.
            progress: Called after every scan and row.
        """
        written = folder / "scored.json"
        mark = {"protocol": self.protocol.id, "weights": stamp, "rows": list(entries), "scans": self.scans}
        if written.is_file() and json.loads(written.read_text())["mark"] == mark:
            return tuple(read_scores(folder / "scores.jsonl"))
        scored = score_models(entries, self.store, self.regions, self.protocol, progress=progress)
        write_scores(folder / "scores.jsonl", scored.scores)
        written.write_text(json.dumps({"mark": mark, "notes": scored.notes}, indent=1) + "\n")
        return scored.scores

    def hides_others(self, name: str, model: Pretrainer) -> bool:
        """Whether a row is scored on other voxels than the comparison's masks hide."""
        return name.endswith(f", {OWN}") or (isinstance(model, SliceMAE) and not model.shared)

    @property
    def scans(self) -> list[str]:
        """Names of the scans that are scored."""
        return [region.entry.scan_id for region in self.regions]

    def show(self, name: str, model: Pretrainer, regions: Sequence[Region], folder: Path) -> None:
        """Keeps a row's reconstructions of some scans, for pictures."""
        for region in regions:
            path = picture_path(folder, name, region)
            if not path.is_file():
                write_picture(path, rebuild_region(model, self.store, region, self.protocol))


def under(model: Pretrainer, masking: Masking) -> Pretrainer:
    """The model with other masks; weights are shared. A slice MAE keeps its own: they are part of what it is."""
    if isinstance(model, SliceMAE) or model.masking == masking:
        return model
    other = copy.copy(model)
    other.masking = masking
    return other


def picture_path(folder: Path, name: str, region: Region) -> Path:
    """Where a row's reconstruction of a scan is kept."""
    return folder / "pictures" / f"{name.replace('/', '_')}--{region.entry.scan_id}.npz"


def write_picture(path: Path, rebuilt: RebuiltScan) -> None:
    """Keeps a reconstruction in thousandths of the window, and its mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    volume = np.rint(rebuilt.reconstruction.clip(0, 1) * 1000).astype(np.int16)
    with fresh.open("wb") as file:
        np.savez_compressed(file, volume=volume, mask=np.packbits(rebuilt.mask))
    fresh.replace(path)


class Pictures(Mapping[str, Sequence[Case]]):
    """Reconstructions of some scans by row, read when they are looked at: all at once would fill the memory.

    Args:
        folders: Row to the folder that keeps its pictures.
        regions: The scans.
        judge: The comparison's.
    """

    def __init__(self, folders: Mapping[str, Path], regions: Sequence[Region], judge: Judge) -> None:
        self._folders = folders
        self._regions = regions
        self._judge = judge

    def __getitem__(self, name: str) -> Sequence[Case]:
        return [self._case(self._folders[name], name, region) for region in self._regions]

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def _case(self, folder: Path, name: str, region: Region) -> Case:
        entry, window = region.entry, self._judge.protocol.window
        kept = np.load(picture_path(folder, name, region))
        truth = window.normalize(self._judge.store.read(entry.scan_id, (0, 0, 0), entry.shape).astype(np.float32))
        mask = np.unpackbits(kept["mask"], count=truth.size).astype(bool).reshape(entry.shape)
        return Case(
            scan_id=entry.scan_id,
            dataset=entry.dataset,
            truth_hu=window.denormalize(truth).astype(np.float32),
            reconstruction_hu=window.denormalize(kept["volume"].astype(np.float32) / 1000).astype(np.float32),
            mask=mask,
            held_out=held_out(region),
            spacing_mm=entry.spacing_mm,
            window=window,
        )


def shown_regions(regions: Sequence[Region], count: int) -> list[Region]:
    """The scans to show: the first of every dataset, then the second of each, up to `count`."""
    by_dataset: dict[str, list[Region]] = {}
    for region in regions:
        by_dataset.setdefault(region.entry.dataset, []).append(region)
    turns = range(max(map(len, by_dataset.values()), default=0))
    ordered = [group[turn] for turn in turns for group in by_dataset.values() if turn < len(group)]
    return ordered[:count]
