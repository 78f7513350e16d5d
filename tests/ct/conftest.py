import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct"
    if not root.is_dir():
        pytest.skip(f"no test data at {root}: set MAESIL_TEST_DATA")
    return root
