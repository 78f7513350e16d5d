from __future__ import annotations

import numpy as np
import pytest

from maesil.ct.phantom import NAMES, Phantom, phantom


@pytest.fixture(scope="module")
def made() -> Phantom:
    return phantom(seed=1, shape=(107, 120, 120), spacing_mm=(3.0, 3.0, 3.0))


def test_phantom__has_every_structure_at_its_hu(made: Phantom) -> None:
    hu, labels = made.volume.array, made.labels.array
    assert set(np.unique(labels)) == {0, *NAMES}
    median = {name: float(np.median(hu[labels == label])) for label, name in NAMES.items()}
    ranges = {
        "fat": (-130, -70), "muscle": (20, 90), "lung_right": (-900, -750), "lung_left": (-900, -750),
        "heart": (90, 170), "liver": (70, 140), "aorta": (140, 240), "rib": (200, 800), "stomach_gas": (-1000, -700),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        assert low < median[name] < high, name
    assert np.median(hu[labels == 0]) == pytest.approx(-1000, abs=5)
    assert hu.min() >= -1024


def test_phantom__structures_lie_where_a_reader_expects_them(made: Phantom) -> None:
    assert made.volume.geometry.orientation == "SPL"
    number = {name: label for label, name in NAMES.items()}

    def centre(name: str) -> np.ndarray:
        voxels = np.argwhere(made.labels.array == number[name])
        return made.volume.geometry.index_to_mm(voxels.mean(0, keepdims=True))[0]

    assert centre("liver")[0] < 0 < centre("spleen")[0]  # x grows to the patient's left
    assert centre("lung_right")[0] < 0 < centre("lung_left")[0]
    assert centre("heart")[1] < centre("vertebra")[1]  # y grows backwards
    assert centre("kidney_left")[2] < centre("heart")[2]  # z grows upwards


def test_phantom__is_a_function_of_its_seed() -> None:
    small = {"shape": (54, 60, 60), "spacing_mm": (6.0, 6.0, 6.0)}
    first, again, other = (phantom(seed, **small).volume.array for seed in (3, 3, 4))  # type: ignore[arg-type]
    assert np.array_equal(first, again)
    assert np.mean(first != other) > 0.2
