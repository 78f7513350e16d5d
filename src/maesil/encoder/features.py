"""Features of a store as a table: one vector per scan and per superpatch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32

from maesil.catalog import nearest
from maesil.counts import count_of
from maesil.encoder.card import Transfer
from maesil.encoder.feature_file import require_features, require_table
from maesil.encoder.start import require_same_voxels
from maesil.encoder.tokens import TOGETHER, pooled, require_batch, scan_tokens, weighted_mean
from maesil.errors import ConfigError, reason
from maesil.extras import optional
from maesil.files import replacing
from maesil.models.backbone import Backbone
from maesil.progress import Progress
from maesil.sampling.regions import tissue_share
from maesil.seen import seen_patients
from maesil.store.scanstore import ScanEntry, ScanStore
from maesil.tiling import Tile

LEVELS = ("scan", "superpatch")
TEXTS = ("level", "scan_id", "dataset", "patient", "seen", "groups")
SEEN, UNSEEN, UNKNOWN = "yes", "no", "unknown"
"""Whether the encoder was trained on a row's patient, as far as the encoder's checkpoint records it.
Groups are unknown, too, in tables that were written before they were recorded."""
NUMBERS = ("x_mm", "y_mm", "z_mm", "radius_mm", "start_s", "start_p", "start_l", "tissue_share", "tokens")
BROKEN = (KeyError, ValueError, TypeError, OSError, EOFError, BadZipFile, zlib.error)
"""What reading a damaged file, or one of another kind, raises."""


@dataclass(frozen=True)
class Features:
    """A table of vectors.

    Attributes:
        texts: Text columns, one list each: level ("scan" or "superpatch"), scan_id, dataset, patient, whether the
            encoder was trained on the patient (seen: "yes", "no", "unknown"), and the groups that its tokens were
            encoded in, such as "2 2".
        numbers: Number columns, one array each: centre in LPS mm, distance from the centre to a corner in mm, first
            voxel (S, P, L), share of tissue, tokens pooled; a scan's row has its volume's centre.
        vectors: Feature vectors, (rows, e) float32.
    """

    texts: dict[str, list[str]]
    numbers: dict[str, Float[np.ndarray, " rows"]]
    vectors: Float32[np.ndarray, "rows e"]

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, level: str) -> list[int]:
        """Indices of a level's rows."""
        return [at for at, name in enumerate(self.texts["level"]) if name == level]


def embed(
    backbone: Backbone,
    card: Transfer,
    store: ScanStore,
    *,
    batch: int = 4,
    groups: tuple[int, int] = TOGETHER,
    progress: Progress | None = None,
) -> Features:
    """Embeds every scan of a store.

    A superpatch's vector is the mean of its tokens whose patch is not air; a scan's is the mean over all such tokens.

    Args:
        backbone: The encoder, on its device.
        card: The encoder's card; the store must be resampled as for the pre-training.
        store: The scans.
        batch: Superpatches per batch.
        groups: Tokens that are encoded apart, as in `maesil.encoder.tokens.box_layers`.
        progress: Called after every scan.

    Raises:
        ConfigError: The store's voxels differ from the pre-training's, no scan has tissue, or `batch` is less than 1.
    """
    require_batch(batch)
    require_same_voxels(card, store)
    texts: dict[str, list[str]] = {name: [] for name in TEXTS}
    numbers: dict[str, list[float]] = {name: [] for name in NUMBERS}
    vectors: list[Any] = []
    seen = seen_patients(card.seen, store.entries)
    for done, entry in enumerate(store.entries, start=1):
        parts, counts, places = [], [], []
        for tile, tokens, solid in scan_tokens(backbone, store, entry, batch=batch, groups=groups):
            parts.append(pooled(tokens, solid))
            counts.append(int(solid.sum()))
            places.append(tile)
        if parts:
            whole = weighted_mean(parts, counts)
            rows: list[tuple[str, Any, Tile | None, int]] = [("scan", whole, None, sum(counts))]
            rows += [("superpatch", *row) for row in zip(parts, places, counts, strict=True)]
            for level, vector, place, count in rows:
                _append(texts, numbers, entry, level, place, count, store)
                texts["seen"].append(UNKNOWN if seen is None else SEEN if entry.patient in seen else UNSEEN)
                texts["groups"].append(" ".join(map(str, groups)))
                vectors.append(vector)
        if progress is not None:
            progress(done, len(store.entries), entry.scan_id)
    if not vectors:
        raise ConfigError("no scan of this store has tissue to embed", where=store.path)
    arrays = {name: np.array(values, dtype=np.float64) for name, values in numbers.items()}
    return Features(texts, arrays, np.stack(vectors).astype(np.float32))


def _append(
    texts: dict[str, list[str]],
    numbers: dict[str, list[float]],
    entry: ScanEntry,
    level: str,
    tile: Tile | None,
    tokens: int,
    store: ScanStore,
) -> None:
    own = {"level": level, "scan_id": entry.scan_id, "dataset": entry.dataset, "patient": entry.patient}
    for name, value in own.items():
        texts[name].append(value)
    start = (0, 0, 0) if tile is None else tile.origin
    inside = tuple(slice(0, size) for size in entry.shape) if tile is None else tile.inside
    centre = np.array([[(part.start + part.stop - 1) / 2 for part in inside]], dtype=np.float64)
    tissue = entry.tissue_share
    box = tuple(part.stop - part.start for part in inside)
    if tile is not None:
        tissue = tissue_share(store.occupancy(entry.scan_id), tile.origin, (box[0], box[1], box[2]))
    x, y, z = entry.geometry.index_to_mm(centre)[0]
    radius = np.linalg.norm(np.multiply(box, entry.spacing_mm)) / 2
    for name, number in zip(NUMBERS, (x, y, z, radius, *start, tissue, tokens), strict=True):
        numbers[name].append(float(number))


def write_features(features: Features, path: Path) -> Path:
    """Writes the table as .parquet, .csv or .npz, atomically.

    Raises:
        ConfigError: The suffix is another one, the folder does not exist, or another file has this name.
        MissingExtraError: Parquet needs pyarrow.
    """
    require_table(path)
    with replacing(path) as fresh:
        if path.suffix == ".parquet":
            pd.DataFrame(_columns(features)).to_parquet(fresh, index=False)
        elif path.suffix == ".csv":
            pd.DataFrame(_columns(features)).to_csv(fresh, index=False)
        else:
            with fresh.open("wb") as file:
                arrays: dict[str, Any] = {**features.texts, **features.numbers, "vectors": features.vectors}
                np.savez_compressed(file, **arrays)
    return path


def _columns(features: Features) -> dict[str, Any]:
    vectors = {f"f{number:04d}": features.vectors[:, number] for number in range(features.vectors.shape[1])}
    return {**features.texts, **features.numbers, **vectors}


def read_features(path: Path) -> Features:
    """Reads what `write_features` wrote.

    Raises:
        ConfigError: The file does not exist, or is not a table of features.
    """
    require_features(path)
    try:
        columns = _read_columns(path)
        names = sorted(name for name in columns if name.startswith("f") and name[1:].isdigit())
        vectors = columns["vectors"] if "vectors" in columns else np.stack([columns[name] for name in names], axis=1)
        if not vectors.size or {len(columns[name]) for name in columns} != {len(vectors)}:
            raise ValueError("it has no vectors, or not one of every row")
        columns.setdefault("seen", [UNKNOWN] * len(vectors))  # older tables lack these columns
        columns.setdefault("groups", [UNKNOWN] * len(vectors))
        columns.setdefault("radius_mm", [np.inf] * len(vectors))
        texts = {name: [str(value) for value in columns[name]] for name in TEXTS}
        numbers = {name: np.asarray(columns[name], dtype=np.float64) for name in NUMBERS}
        return Features(texts, numbers, np.asarray(vectors, dtype=np.float32))
    except BROKEN as error:
        raise ConfigError(
            f"not a table of features: {reason(error)}", where=path, fix="write one: maesil embed"
        ) from error


def _read_columns(path: Path) -> dict[str, Any]:
    if path.suffix == ".npz":
        with path.open("rb") as stored, np.load(stored, allow_pickle=False) as file:
            return dict(file)
    if path.suffix == ".parquet":
        optional("pyarrow", "tables")
        table = pd.read_parquet(path)
    else:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)  # a scan may be called 007, or NA
    return {str(name): table[name].to_numpy() for name in table}


@dataclass(frozen=True)
class Match:
    """A neighbour of a query.

    Attributes:
        similarity: Cosine similarity of the centred vectors, in [-1, 1].
        scan_id: The neighbour's scan.
        patient: The scan's patient.
        position_mm: The neighbour's centre, LPS.
    """

    similarity: float
    scan_id: str
    patient: str
    position_mm: tuple[float, float, float]


def similar(
    features: Features,
    scan_id: str,
    *,
    level: str = "scan",
    at_mm: tuple[float, float, float] | None = None,
    count: int = 5,
    same_patient: bool = False,
) -> list[Match]:
    """Finds the scans nearest to a scan, or the regions nearest to one of its regions.

    Args:
        features: The table, as returned by `embed`.
        scan_id: The query scan.
        level: "scan", or "superpatch" with `at_mm`.
        at_mm: A position in LPS mm; the superpatch with the nearest centre is the query.
        count: Number of neighbours.
        same_patient: Whether the query's own patient may be among them.

    Raises:
        ConfigError: The scan is not in the table, no position is given for a region, no region is at the position, the
            table has vectors of different groups, or a value is out of range.
    """
    _require_query(level, at_mm, count)
    rows = features.rows(level)
    own = [at for at in rows if features.texts["scan_id"][at] == scan_id]
    if not own:
        known = list(dict.fromkeys(features.texts["scan_id"]))
        guess = nearest(scan_id, known)
        raise ConfigError(
            f"no scan '{scan_id}' in these features",
            fix=f"did you mean '{guess}'?" if guess else f"it has {count_of(len(known), 'scan')}, such as {known[0]}",
        )
    places = np.stack([features.numbers[name] for name in ("x_mm", "y_mm", "z_mm")], axis=1)
    query = own[0] if at_mm is None else min(own, key=lambda at: float(np.linalg.norm(places[at] - np.array(at_mm))))
    if at_mm is not None:
        _require_near(features, query, places[query], at_mm)
    patient = features.texts["patient"][query]
    groups = features.texts["groups"]
    if len({groups[at] for at in rows}) > 1:
        fix = "embed all scans with the same --groups"
        raise ConfigError("these vectors were encoded in different groups, and cannot be compared", fix=fix)
    others = [at for at in rows if at != query and (same_patient or features.texts["patient"][at] != patient)]
    centred = features.vectors.astype(np.float64) - features.vectors[rows].mean(axis=0)
    units = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    ordered = sorted(others, key=lambda at: -float(units[at] @ units[query]))[:count]
    return [
        Match(
            float(units[at] @ units[query]),
            features.texts["scan_id"][at],
            features.texts["patient"][at],
            (float(places[at, 0]), float(places[at, 1]), float(places[at, 2])),
        )
        for at in ordered
    ]


def _require_query(level: str, at_mm: tuple[float, float, float] | None, count: int) -> None:
    """Checks what `similar` is asked."""
    if level not in LEVELS:
        raise ConfigError(f"level is {level!r}", fix=f"use one of: {', '.join(LEVELS)}")
    if count < 1:
        raise ConfigError(f"count is {count}", fix="list at least 1 neighbour")
    if level == "superpatch" and at_mm is None:
        raise ConfigError("a region needs a position", fix="give one, x, y and z in LPS mm, or compare whole scans")
    if at_mm is not None and not np.isfinite(at_mm).all():
        place = " ".join(f"{value:g}" for value in at_mm)
        raise ConfigError(f"the position is {place}", fix="give x, y and z in LPS mm, as finite numbers")


def _require_near(
    features: Features, query: int, centre: Float[np.ndarray, " xyz"], at_mm: tuple[float, float, float]
) -> None:
    """Checks that a position can lie in the region whose centre is the nearest to it."""
    distance = float(np.linalg.norm(centre - np.array(at_mm)))
    if distance > features.numbers["radius_mm"][query]:
        place, nearest_one = (" ".join(f"{value:g}" for value in np.round(each, 1)) for each in (at_mm, centre))
        raise ConfigError(
            f"no region of '{features.texts['scan_id'][query]}' is at {place} mm",
            fix=f"positions are in LPS mm; the nearest region, {distance:.0f} mm away, is at: --at {nearest_one}",
        )
