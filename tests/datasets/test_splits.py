from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesil.datasets.splits import SPLITS, SplitConfig, split_of
from maesil.errors import ConfigError, UnknownNameError

PATIENTS = [f"patient-{number}" for number in range(4000)]


def test_split_of__meets_the_fractions_on_average() -> None:
    counts = Counter(split_of(patient, SplitConfig(fractions=(0.7, 0.1, 0.2))) for patient in PATIENTS)
    for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
        assert counts[split] / len(PATIENTS) == pytest.approx(share, abs=0.03)


def test_split_of__never_changes() -> None:
    # Written down once: a change would move patients between the splits of stores that exist.
    known = {"s0001": "train", "s0002": "train", "s0000": "val", "s0009": "val", "s0004": "test"}
    assert {name: split_of(name, SplitConfig()) for name in known} == known


def test_split_of__another_seed_is_another_split() -> None:
    first = [split_of(patient, SplitConfig(seed=0)) for patient in PATIENTS[:200]]
    second = [split_of(patient, SplitConfig(seed=1)) for patient in PATIENTS[:200]]
    assert first != second


@given(st.text(), st.sampled_from(SPLITS))
def test_split_of__overrides_win(patient: str, split: str) -> None:
    assert split_of(patient, SplitConfig(overrides={patient: split})) == split


@given(st.text())
def test_split_of__a_split_without_a_share_stays_empty(patient: str) -> None:
    assert split_of(patient, SplitConfig(fractions=(0.9, 0.1, 0.0))) != "test"
    assert split_of(patient, SplitConfig(fractions=(0.0, 0.0, 1.0))) == "test"


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.2, 0.0), (0.0, 0.0, 0.0)])
def test_split_config__refuses_what_is_no_share_of_a_whole(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        SplitConfig(fractions=fractions)


def test_split_config__refuses_unknown_splits() -> None:
    with pytest.raises(UnknownNameError, match="unknown split 'tset'") as raised:
        SplitConfig(overrides={"a": "tset"})
    assert "did you mean 'test'?" in str(raised.value)
