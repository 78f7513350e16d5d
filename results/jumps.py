"""Measures steps between superpatches, with a mask for each superpatch and with one for the whole scan.

    python results/jumps.py --run RUN --store STORE --split val --out jumps.json

The measure is that of seams between patches, at the faces of superpatches: the mean absolute difference of neighbouring
masked voxels across such a face, over that of all other neighbours, as a multiple of the same ratio in the scan. 1: the
faces do not show. A scan's value is the mean over mask draws, a row's the mean over scans.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from maesil.evaluation.evaluate import compared_models
from maesil.evaluation.intervals import patient_interval
from maesil.evaluation.measures import plain_mean
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.runner import held_out, rebuild_region, under
from maesil.files import write_json
from maesil.metrics.fixed_pattern import face_ratio
from maesil.models.contract import Reconstructor
from maesil.runs.load import load_run
from maesil.sampling.regions import Region, regions_of
from maesil.store.scanstore import ScanStore

AXES = ("S", "P", "L")
MASKS = {"a mask for each superpatch": False, "one mask for the scan": True}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--draws", type=int, default=4, help="mask draws per scan")
    parser.add_argument("--models", nargs="+", help="rows of `maesil evaluate` to measure; all by default")
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    loaded, store = load_run(words.run, device="cpu"), ScanStore(words.store)
    data, superpatch = loaded.config.data, loaded.config.model.superpatch
    regions = regions_of(store, data, superpatch, words.split)
    rows = []
    for kind, whole_scan in MASKS.items():
        protocol = replace(Protocol(whole_scan=whole_scan), window=data.window)
        for name, model in compared_models(loaded).items():
            if words.models and name not in words.models:
                continue
            masked = under(model, protocol.masking_of(loaded.config.masking))
            scans = [measured(masked, store, region, protocol, words.draws) for region in regions]
            row = {"masks": kind, "model": name, **dict(summarised(scans, regions))}
            rows.append(row)
            print(row, flush=True)
    about = {"split": words.split, "scans": len(regions), "draws": words.draws, "superpatch": superpatch}
    write_json(words.out, {**about, "rows": rows})


def measured(
    model: Reconstructor, store: ScanStore, region: Region, protocol: Protocol, draws: int
) -> tuple[float, ...]:
    """The ratio along each axis, averaged over mask draws; nan along an axis without such faces."""
    found = []
    for draw in range(draws):
        rebuilt = rebuild_region(model, store, region, protocol, draw)
        volume, truth, mask, scored = map(
            torch.from_numpy, (rebuilt.reconstruction.clip(0, 1), rebuilt.truth, rebuilt.mask, held_out(region))
        )
        edges = model.grid.superpatch
        found.append([face_ratio(volume, truth, mask, scored, edges[axis], axis) for axis in range(len(AXES))])
    return tuple(plain_mean(values) for values in zip(*found, strict=True))


def summarised(scans: list[tuple[float, ...]], regions: list[Region]) -> Iterator[tuple[str, dict[str, object]]]:
    """Mean over scans along each axis, its interval over patients, and the number of scans with such faces."""
    for axis, letter in enumerate(AXES):
        kept = [at for at, values in enumerate(scans) if not math.isnan(values[axis])]
        values = [scans[at][axis] for at in kept]
        low, high = patient_interval(values, [regions[at].entry.patient for at in kept])
        yield letter, {"mean": plain_mean(values), "interval": [low, high], "scans": len(kept), "values": values}


if __name__ == "__main__":
    main()
