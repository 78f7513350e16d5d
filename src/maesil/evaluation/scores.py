"""Scores in tidy rows: JSON lines on disk, a pandas frame in memory. Every table is a group-by over them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from maesil.errors import CheckpointError, reason
from maesil.evaluation.protocol import RegionName
from maesil.files import finite, read_json, require_json, require_own, write_json, write_json_lines

EARLIER_REGIONS = ("composite",)
"""Regions of version 0.1 that have since been renamed; the scores' protocol lines explain them."""
NUMBERS = ("value", "spread")
STRANGE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
"""JSON has no such numbers: values that are not finite are written as one of these strings."""
KEY = ["protocol", "dataset", "scan", "model", "metric", "region", "seed"]
"""Columns that identify a score: no two scores in a table are equal in all of them."""

NEEDED = frozenset((*KEY[:-1], "value"))
"""What every row of scores has, those of earlier versions, too."""


@dataclass(frozen=True)
class Score:
    """One score of one scan.

    Attributes:
        scan: The scan's id in its store.
        dataset: The scan's dataset.
        patient: The scan's patient, a salted hash or a public case name.
        model: Model that reconstructed the scan; `mean`, `interpolation` and `kriging` learn nothing.
        metric: A name in `maesil.evaluation.measures.METRICS`.
        region: A name in `maesil.evaluation.protocol.REGIONS`.
        value: The mean over mask draws; inf for the PSNR of identical volumes; nan if the region is empty, or the scan
            too thin.
        protocol: The protocol's `Protocol.id`.
        described: The protocol's `Protocol.describe()`.
        draws: Number of mask draws that `value` is the mean of.
        spread: Sample standard deviation over the mask draws; nan for fewer than two, or if a draw is not finite.
        seed: Seed of the model's training; 0 for a model that learns nothing.
        grid: Sizes of superpatches and patches, which the protocol's id does not cover, such as "64x64x64 / 8x8x8";
            empty up to version 0.2.0.
    """

    scan: str
    dataset: str
    patient: str
    model: str
    metric: str
    region: str
    value: float
    protocol: str
    described: str = ""
    draws: int = 1
    spread: float = math.nan
    seed: int = 0
    grid: str = ""


def score_frame(scores: Iterable[Score]) -> pd.DataFrame:
    """A tidy frame of scores: a row per score, a column per attribute of `Score`."""
    frame = pd.DataFrame([vars(score) for score in scores], columns=[field.name for field in fields(Score)])
    return frame.astype(dict.fromkeys(NUMBERS, float))


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Writes scores as JSON lines; an existing file is replaced atomically.

    Each protocol is described only in its first line: the description is most of a line, and the same in all of them.
    """
    described: set[str] = set()
    lines = []
    for score in scores:
        plain = _plain(score)
        if score.described in described:
            del plain["described"]
        described.add(score.described)
        lines.append(plain)
    write_json_lines(path, lines)


def write_json_scores(path: Path, scores: Iterable[Score], notes: Sequence[str] = ()) -> None:
    """Writes scores as one JSON object: {"scores": [...], "notes": [...]}."""
    write_json(path, {"scores": [_plain(score) for score in scores], "notes": list(notes)})


def require_json_scores(path: Path) -> Path:
    """Checks, before the work, that `write_json_scores` can write here; returns the path.

    Raises:
        ConfigError: As `require_json`, or the file is there and holds no such scores.
    """
    return require_own(require_json(path), _are_json_scores, "evaluate --json")


def _are_json_scores(path: Path) -> bool:
    content = read_json(path)
    if not isinstance(content, dict) or content.keys() != {"scores", "notes"}:
        return False
    rows = content["scores"]
    return isinstance(rows, list) and all(isinstance(row, dict) and row.keys() >= NEEDED for row in rows)


def read_scores(path: Path) -> list[Score]:
    """Reads what `write_scores` wrote.

    Raises:
        CheckpointError: The file is absent, or a line is not a score.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"scores cannot be read: {reason(error)}", where=path, fix="run `maesil evaluate`"
        ) from error
    scores = [_score(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]
    described = {score.protocol: score.described for score in reversed(scores) if score.described}
    return [replace(score, described=described.get(score.protocol, "")) for score in scores]


def _plain(score: Score) -> dict[str, Any]:
    plain: dict[str, Any] = finite(asdict(score))
    return plain


def _score(line: str, path: Path, number: int) -> Score:
    try:
        plain = json.loads(line, parse_constant=_refuse)
        numbers = {name: plain[name] for name in NUMBERS if name in plain}
        plain |= {name: STRANGE[one] if isinstance(one, str) else float(one) for name, one in numbers.items()}
        known = {field.name for field in fields(Score)}
        score = Score(**{key: content for key, content in plain.items() if key in known})
        if score.region not in (*get_args(RegionName), *EARLIER_REGIONS):
            raise ValueError(f"region {score.region!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"line {number} is not a score: {error}", where=path, fix="run `maesil evaluate` again"
        ) from error
    return score


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not valid JSON")
