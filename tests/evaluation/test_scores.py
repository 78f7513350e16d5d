from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from maesil.errors import CheckpointError, ConfigError
from maesil.evaluation.scores import Score, read_scores, require_json_scores, write_json_scores, write_scores

SCORE = Score("s1", "btcv", "p1", "mae", "psnr", "whole", 20.5, "abc", "words [protocol abc]")


def test_read_scores__is_the_inverse_of_write(tmp_path: Path) -> None:
    scores = [SCORE, replace(SCORE, scan="s2", value=1 / 3), replace(SCORE, scan="ü", value=-math.inf)]
    write_scores(tmp_path / "new" / "scores.jsonl", scores)
    assert read_scores(tmp_path / "new" / "scores.jsonl") == scores


def test_write_scores__is_strict_json_for_infinity_and_nan(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    write_scores(path, [replace(SCORE, value=math.inf), replace(SCORE, scan="s2", value=math.nan)])
    plain = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert [row["value"] for row in plain] == ["inf", "nan"]
    first, second = read_scores(path)
    assert first.value == math.inf
    assert math.isnan(second.value)


def test_write_scores__replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    write_scores(path, [SCORE, replace(SCORE, scan="s2")])
    write_scores(path, [SCORE])
    assert read_scores(path) == [SCORE]
    assert [file.name for file in tmp_path.iterdir()] == ["scores.jsonl"]


def test_require_json_scores__lets_only_such_scores_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    for scores in ([], [SCORE]):
        write_json_scores(path, scores)
        assert require_json_scores(path) == path
    for theirs in ("patients", "[]", '{"scores": [1], "notes": []}', '{"scores": [], "notes": [], "x": 1}'):
        path.write_text(theirs)
        with pytest.raises(ConfigError, match="there already, and `maesil evaluate --json` did not write it"):
            require_json_scores(path)
        assert path.read_text() == theirs


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"value": "big"}', '{"value": NaN}', json.dumps({"scan": "s", "value": 1.0})]
)
def test_read_scores__names_the_damaged_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "scores.jsonl"
    write_scores(path, [SCORE])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CheckpointError, match="line 2 is not a score"):
        read_scores(path)


def test_read_scores__refuses_an_unknown_region(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    write_scores(path, [replace(SCORE, region="visible")])
    with pytest.raises(CheckpointError, match="visible"):
        read_scores(path)


def test_read_scores__of_an_absent_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read") as absent:
        read_scores(tmp_path / "scores.jsonl")
    assert absent.value.fix is not None


def test_write_scores__says_what_a_protocol_is_once(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    other = replace(SCORE, protocol="def", described="other [protocol def]")
    scores = [SCORE, replace(SCORE, scan="s2"), other, replace(other, scan="s2", spread=0.25, draws=8, seed=2)]
    write_scores(path, scores)
    assert path.read_text().count("words") == path.read_text().count("other") == 1
    assert read_scores(path) == scores


def test_read_scores__of_version_0_1_load(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    old = {key: value for key, value in asdict(SCORE).items() if key not in ("draws", "spread", "seed")}
    path.write_text(f"{json.dumps(old)}\n{json.dumps(old | {'region': 'composite'})}\n")
    assert read_scores(path) == [SCORE, replace(SCORE, region="composite")]
