"""Tables of features on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maesil.encoder.features import NUMBERS, TEXTS, Features, read_features, write_features


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
