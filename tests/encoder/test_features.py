"""Tables of features on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maesil.cli import main
from maesil.encoder.features import NUMBERS, TEXTS, Features, read_features, similar, write_features
from maesil.errors import ConfigError


@pytest.mark.parametrize("ending", [".npz", ".csv", ".parquet"])
def test_read_features__keeps_names_that_look_like_numbers_or_like_nothing(ending: str, tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    texts = {name: ["007", "NA", "1e3", ""] for name in TEXTS}
    numbers = {name: np.array([0.1, 1 / 3, 2.0, -1e-9]) for name in NUMBERS}
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found = read_features(write_features(Features(texts, numbers, vectors), tmp_path / f"features{ending}"))
    assert found.texts == texts
    assert all((found.numbers[name] == numbers[name]).all() for name in NUMBERS)
    np.testing.assert_array_equal(found.vectors, vectors)


@pytest.mark.parametrize("ending", [".npz", ".csv", ".parquet"])
def test_write_features__replaces_an_earlier_table_and_no_other_file(ending: str, tmp_path: Path) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"patients{ending}"
    texts, numbers = {name: ["a"] for name in TEXTS}, {name: np.ones(1) for name in NUMBERS}
    table = Features(texts, numbers, np.ones((1, 2), np.float32))
    path.touch()  # an empty file, as mktemp makes it, holds nothing to lose
    write_features(table, write_features(table, path))
    theirs = pd.DataFrame({"scan_id": ["a"], "survival": [3.5]})
    if ending == ".parquet":
        theirs.to_parquet(path)
    elif ending == ".csv":
        theirs.to_csv(path)
    else:
        np.savez(path, survival=np.ones(1))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is there already, and is no table of features"):
        write_features(table, path)
    path.write_bytes(b"\xff\xfenotes")
    with pytest.raises(ConfigError, match="is there already, and is no table of features"):
        write_features(table, path)
    path.write_bytes(before)
    assert main(["embed", "demo-2mm", str(tmp_path), "--out", str(path)]) == 2
    assert path.read_bytes() == before


def test_read_features__of_a_column_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    np.savez(path, **{"": np.ones(1), "f0000": np.ones(1)})
    with pytest.raises(ConfigError, match="not a table of features"):
        read_features(path)


def test_read_features__of_a_table_without_the_newer_columns(tmp_path: Path) -> None:
    path = tmp_path / "features.csv"
    texts, numbers = {name: ["a"] for name in TEXTS}, {name: np.ones(1) for name in NUMBERS}
    write_features(Features(texts, numbers, np.ones((1, 2), np.float32)), path)
    table = pd.read_csv(path).drop(columns=["seen", "groups", "radius_mm"])
    table.to_csv(path, index=False)
    found = read_features(path)
    assert found.texts["seen"] == found.texts["groups"] == ["unknown"]
    assert np.isinf(found.numbers["radius_mm"]).all()


def test_read_features__damaged_or_foreign_files(tmp_path: Path) -> None:
    texts, numbers = {name: ["a", "b"] for name in TEXTS}, {name: np.ones(2) for name in NUMBERS}
    sound = write_features(Features(texts, numbers, np.ones((2, 2), np.float32)), tmp_path / "sound.npz").read_bytes()
    table = write_features(Features(texts, numbers, np.ones((2, 2), np.float32)), tmp_path / "sound.csv").read_bytes()
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "short.npz", vectors=np.ones((3, 2)), **texts, **numbers)
    files = {
        "empty.npz": b"",
        "cut.npz": sound[:-100],
        "flipped.npz": sound[:100] + bytes(100) + sound[200:],
        "array.npz": (tmp_path / "array.npy").read_bytes(),
        "short.npz": (tmp_path / "short.npz").read_bytes(),
        "header.csv": table.splitlines(keepends=True)[0],
        "empty.csv": b"",
        "binary.csv": sound,
        "words.csv": b"a,b\n1,2\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match="not a table of features"):
            read_features(tmp_path / name)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": -1}, "count is -1"),
        ({"level": "superpatch", "at_mm": (math.nan, 0.0, 0.0)}, "the position is nan 0 0"),
        ({"level": "superpatch", "at_mm": (0.0, 0.0, math.inf)}, "the position is 0 0 inf"),
        ({"level": "superpatch"}, "a region needs a position"),
        ({"level": "organ"}, "use one of: scan, superpatch"),
    ],
    ids=str,
)
def test_similar__refuses_what_cannot_be_asked(asked: dict[str, Any], says: str) -> None:
    texts = {name: ["a", "b", "a", "b"] for name in TEXTS} | {"level": ["scan", "scan", "superpatch", "superpatch"]}
    texts["groups"] = ["1 1"] * 4
    features = Features(texts, {name: np.ones(4) for name in NUMBERS}, np.eye(4, dtype=np.float32))
    assert len(similar(features, "a")) == 1
    with pytest.raises(ConfigError, match=says) as refused:
        similar(features, "a", **asked)
    assert "--level" not in str(refused.value)
