import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maesil.ct.window import Window
from maesil.errors import ConfigError

HU = [-3024, -1000, -999, 0, 40, 1000, 20000]
bounds = st.tuples(st.floats(-3000, 3000), st.floats(1, 4000)).map(lambda b: (b[0], b[0] + b[1]))


@given(bounds, st.lists(st.integers(-32768, 32767), min_size=1, max_size=20))
def test_denormalize__after_normalize_is_clip(window: tuple[float, float], hu: list[int]) -> None:
    low, high = window
    values = np.array(hu, dtype=np.float64)
    back = Window(low, high).denormalize(Window(low, high).normalize(values))
    np.testing.assert_allclose(back, values.clip(low, high), atol=1e-8)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_normalize__after_denormalize_is_identity(unit: list[float]) -> None:
    window = Window()
    np.testing.assert_allclose(window.normalize(window.denormalize(np.array(unit))), unit, atol=1e-12)


def test_normalize__torch_equals_numpy() -> None:
    window = Window(-1000.0, 1000.0)
    array = window.normalize(np.array(HU, dtype=np.int16))
    tensor = window.normalize(torch.tensor(HU, dtype=torch.int16))
    assert array.dtype == np.float32
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(array, [0, 0, 0.0005, 0.5, 0.52, 1, 1], atol=1e-7)
    np.testing.assert_array_equal(array, tensor.numpy())


def test_denormalize__torch_keeps_gradients() -> None:
    unit = torch.tensor([0.0, 0.25, 1.0], requires_grad=True)
    hu = Window(-200.0, 200.0).denormalize(unit)
    assert hu.tolist() == [-200.0, -100.0, 200.0]
    hu.sum().backward()
    assert unit.grad is not None
    assert unit.grad.tolist() == [400.0] * 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalize__keeps_floating_types(dtype: type) -> None:
    assert Window().normalize(np.array(HU, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (10.0, -10.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_window__refuses_empty_ranges(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match="window"):
        Window(low, high)


def test_import__of_ct_loads_neither_torch_nor_readers() -> None:
    heavy = "{'torch', 'nibabel', 'SimpleITK', 'pydicom', 'scipy'}"
    code = f"import sys, maesil.ct, maesil.ct.readers; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
