"""Scoring the models of a comparison; scores are kept with each model, so that no scan is reconstructed twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maesil.comparison.result import EVERYTHING, OWN_MASKS, TOLD, VISIBLE
from maesil.errors import CheckpointError
from maesil.evaluation.measures import METRICS
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.rebuild import RebuiltScan
from maesil.evaluation.runner import held_out, lpips_or_reason, rebuild_region, score_models, under
from maesil.evaluation.scores import Score, read_scores, write_scores
from maesil.files import replacing, write_json
from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models import Pretrainer, Reconstructor
from maesil.progress import Progress
from maesil.report.case import Case
from maesil.runs.kinds import SCORES
from maesil.sampling.regions import Region
from maesil.store.scanstore import ScanStore

OWN = "own masks"
"""Suffix of a row in which a model is scored under the masks it was trained with, if the other rows' masks differ."""
MARK = "scored.json"
"""Files of a model's scores, and of what was scored."""
DRAWN = 4
"""Number of masks that are compared to decide whether two models hide the same voxels."""


@dataclass(frozen=True)
class Scorer:
    """Scores models on the same scans, masks and protocol.

    Attributes:
        store: The store of the scans.
        regions: The held-out part of each scan.
        protocol: What is scored, and how.
        grid: Grid of the patches that are masked or visible.
        masking: Masking strategy.
    """

    store: ScanStore
    regions: tuple[Region, ...]
    protocol: Protocol
    grid: PatchGrid
    masking: Masking

    def entries(self, label: str, model: Pretrainer) -> dict[str, Reconstructor]:
        """The rows of a model: under the comparison's masks and, if they differ, under its own."""
        rows: dict[str, Reconstructor] = {}
        for name, own in model.entries(label).items():
            common = under(own, self.masking)
            rows[name] = common
            if not (own.sees_all or self.hides_others(common)) and self.hides_others(own):
                rows[f"{name}, {OWN}"] = own
        return rows

    def sees(self, model: Reconstructor) -> str:
        """What a row sees, one of `SIGHTS`."""
        if self.hides_others(model):
            return OWN_MASKS
        if model.sees_all:
            return EVERYTHING
        return TOLD if model.hints else VISIBLE

    def score(
        self,
        entries: Mapping[str, Reconstructor],
        folder: Path,
        stamp: str,
        progress: Progress | None,
        seed: int = 0,
    ) -> tuple[Score, ...]:
        """The scores of a model's rows; read from `folder` if it contains scores of the same weights and protocol.

        Args:
            entries: Row to the model that reconstructs.
            folder: Folder of the scores.
            stamp: Name of the weights.
            progress: Called after every scan and row.
            seed: Training seed of the weights.
        """
        mark = self.mark(list(entries), stamp, seed)
        kept = kept_scores(folder, mark)
        if kept is not None:
            return kept
        scored = score_models(
            entries, self.store, self.regions, self.protocol, patch=self.grid.patch, seed=seed, progress=progress
        )
        write_scores(folder / SCORES, scored.scores)
        done = {"mark": mark, "notes": scored.notes, "scores": len(scored.scores)}
        write_json(folder / MARK, done)
        return scored.scores

    def mark(self, rows: Sequence[str], stamp: str, seed: int) -> dict[str, Any]:
        """A record of what is scored: kept scores are reused only if it is the same."""
        return {
            "protocol": self.protocol.id,
            "weights": stamp,
            "seed": seed,
            "rows": list(rows),
            "scans": self.scans,
            "metrics": list(METRICS) if self.scores_lpips else [name for name in METRICS if name != "lpips"],
        }

    @cached_property
    def scores_lpips(self) -> bool:
        """Whether LPIPS is requested and its weights are available."""
        return lpips_or_reason(self.protocol, None)[0] is not None

    def hides_others(self, model: Reconstructor) -> bool:
        """Whether a row hides voxels other than those the comparison's masks hide.

        Masks are drawn and compared, which covers differences in strategy, ratio, grid and plane.
        """
        tokens = self.masking.draw(DRAWN, self.grid, _generator())
        common = self.grid.unpatchify(tokens[..., None].expand(-1, -1, self.grid.voxels_per_patch))
        return not torch.equal(model.voxel_mask(model.draw_mask(DRAWN, _generator())), common)

    @property
    def voxels(self) -> dict[str, Any]:
        """The settings that the store was prepared with."""
        return dict(self.store.manifest["settings"])

    @property
    def sources(self) -> str:
        """One hash over all scans of the store, training scans included: their names and source files."""
        every = sorted((entry.scan_id, entry.source_sha256) for entry in self.store.entries)
        return hashlib.sha256(json.dumps(every).encode()).hexdigest()

    @property
    def scans(self) -> list[str]:
        """Ids of the scans that are scored."""
        return [region.entry.scan_id for region in self.regions]

    def show(self, name: str, model: Reconstructor, regions: Sequence[Region], folder: Path) -> None:
        """Writes a row's reconstructions of some scans, for pictures."""
        for region in regions:
            path = picture_path(folder, name, region)
            if not path.is_file():
                write_picture(path, rebuild_region(model, self.store, region, self.protocol))


def kept_scores(folder: Path, mark: Mapping[str, Any]) -> tuple[Score, ...] | None:
    """An earlier call's scores; None if they are of something else, or the files are damaged."""
    try:
        done = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if not answers(done["mark"], mark):
            return None
        scores = tuple(read_scores(folder / SCORES))
    except (OSError, ValueError, LookupError, TypeError, CheckpointError):
        return None
    whole = {(score.scan, score.model) for score in scores} == set(product(mark["scans"], mark["rows"]))
    # A file that was cut off at the end of a line can still be read.
    return scores if whole and len(scores) == done.get("scores") else None


def answers(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether kept scores are the wanted ones; they may have more metrics, such as LPIPS if weights were available."""
    less = {**kept, "metrics": [name for name in kept["metrics"] if name in wanted["metrics"]]}
    return less == dict(wanted)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pictures_folder(folder: Path, stamp: str) -> Path:
    """Folder of a model's reconstructions, as a user gets them; one for each set of weights."""
    return folder / "pictures" / stamp.replace(" ", "-")


def picture_path(folder: Path, name: str, region: Region) -> Path:
    """File of a row's reconstruction of a scan."""
    return folder / f"{name.replace('/', '_')}--{region.entry.scan_id}.npz"


def write_picture(path: Path, rebuilt: RebuiltScan) -> None:
    """Writes a reconstruction, in thousandths of the window, and its mask."""
    volume = np.rint(rebuilt.whole * 1000).astype(np.int16)
    with replacing(path) as fresh:
        np.savez_compressed(fresh, volume=volume, mask=np.packbits(rebuilt.mask))


class Pictures(Mapping[str, Sequence[Case]]):
    """Reconstructions of some scans by row, read only when accessed: all at once would fill the memory.

    Args:
        kept: Row, as named in figures, to its pictures' folder and its name there.
        regions: The scans.
        scorer: The comparison's scorer.
    """

    def __init__(self, kept: Mapping[str, tuple[Path, str]], regions: Sequence[Region], scorer: Scorer) -> None:
        self._kept = kept
        self._regions = regions
        self._scorer = scorer

    def __getitem__(self, name: str) -> Sequence[Case]:
        return [self._case(*self._kept[name], region) for region in self._regions]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def _case(self, folder: Path, name: str, region: Region) -> Case:
        entry, window = region.entry, self._scorer.protocol.window
        kept = np.load(picture_path(folder, name, region))
        truth = window.normalize(self._scorer.store.read(entry.scan_id, (0, 0, 0), entry.shape).astype(np.float32))
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
