"""Tidy rows of scores, one JSON object a line: every table is a group-by of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from maesil.errors import CheckpointError
from maesil.evaluation.protocol import Region

METRICS = ("psnr", "ssim", "lpips")
STRANGE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
"""JSON has no such numbers: a value that is not finite is written as one of these strings."""


@dataclass(frozen=True)
class Score:
    """One number about one scan.

    Attributes:
        scan: The scan's id in its store.
        dataset: Its dataset.
        patient: Its patient, a salted hash or a public case name.
        model: What rebuilt it; `mean` and `interpolation` learn nothing.
        metric: psnr (dB), ssim or lpips.
        region: whole, masked or composite.
        value: inf for the PSNR of identical volumes; nan where a region holds no voxel, or a scan is too thin.
        protocol: `Protocol.id`.
        described: `Protocol.describe()`.
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

    @property
    def key(self) -> tuple[str, ...]:
        """What a score is about: no two scores of a table share it."""
        return (self.protocol, self.dataset, self.scan, self.model, self.metric, self.region)


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Writes scores as JSON lines; a file of that name is replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.write_text("".join(f"{json.dumps(_plain(score))}\n" for score in scores), encoding="utf-8")
    fresh.replace(path)


def write_json_scores(path: Path, scores: Iterable[Score], notes: Sequence[str] = ()) -> None:
    """Writes scores as one JSON object: {"scores": [...], "notes": [...]}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {"scores": [_plain(score) for score in scores], "notes": list(notes)}
    path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def read_scores(path: Path) -> list[Score]:
    """Reads what `write_scores` wrote.

    Raises:
        CheckpointError: The file is absent, or a line is no score.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"scores cannot be read: {error}", where=path, fix="run `maesil evaluate`") from error
    return [_score(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]


def by_protocol(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Scores grouped by the description of their protocol, in order of appearance."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.described or score.protocol, []).append(score)
    return groups


def _plain(score: Score) -> dict[str, Any]:
    plain = asdict(score)
    if not math.isfinite(score.value):
        plain["value"] = str(score.value)
    return plain


def _score(line: str, path: Path, number: int) -> Score:
    try:
        plain = json.loads(line, parse_constant=_refuse)
        value = plain["value"]
        plain["value"] = STRANGE[value] if isinstance(value, str) else float(value)
        known = {field.name for field in fields(Score)}
        score = Score(**{key: content for key, content in plain.items() if key in known})
        if score.region not in get_args(Region):
            raise ValueError(f"region {score.region!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"line {number} is no score: {error}", where=path, fix="run `maesil evaluate` again"
        ) from error
    return score


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
