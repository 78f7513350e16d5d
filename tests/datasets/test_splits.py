from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesil.datasets.splits import SPLITS, SplitConfig, divide, rank_of, split_of
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


@pytest.mark.parametrize("count", [1, 2, 3, 5, 24, 100])
@pytest.mark.parametrize("seed", range(20))
def test_divide__no_split_is_empty_while_there_are_patients_for_it(count: int, seed: int) -> None:
    filled = Counter(divide([f"case_{number}" for number in range(count)], SplitConfig(seed=seed)).values())
    assert set(filled) == set(("train", "test", "val")[:count])


@given(st.sets(st.text(min_size=1), min_size=3, max_size=40), st.integers(0, 5))
def test_divide__moves_only_what_fills_a_split(patients: set[str], seed: int) -> None:
    config = SplitConfig(seed=seed)
    drawn = {patient: split_of(patient, config) for patient in patients}
    divided = divide(patients, config)
    moved = {patient for patient in patients if divided[patient] != drawn[patient]}
    empty = set(SPLITS) - set(drawn.values())
    assert {divided[patient] for patient in moved} == empty
    assert len(moved) == len(empty)
    assert divide(sorted(patients, reverse=True), config) == divided


def test_divide__the_nearest_patient_moves() -> None:
    config, names = SplitConfig(fractions=(0.8, 0.1, 0.1)), PATIENTS[:1000]
    trained = [name for name in names if split_of(name, config) == "train"][:10]
    nearest = sorted(trained, key=lambda name: rank_of(name, config))[-2:]
    divided = divide(trained, config)
    assert {divided[name] for name in nearest} == {"val", "test"}
    assert divided[nearest[1]] == "test"


def test_divide__overrides_never_move_and_a_split_without_a_share_stays_empty() -> None:
    config = SplitConfig(overrides={"a": "train", "b": "train"})
    assert divide(["a", "b"], config) == {"a": "train", "b": "train"}
    assert set(divide(PATIENTS[:9], SplitConfig(fractions=(1.0, 0.0, 0.0))).values()) == {"train"}


def test_divide__splits_that_others_fill_need_no_patient() -> None:
    trained = [name for name in PATIENTS[:50] if split_of(name, SplitConfig()) == "train"]
    assert set(divide(trained, SplitConfig(), held=("val", "test")).values()) == {"train"}
