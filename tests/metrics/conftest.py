import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    root = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "weights"
    if not root.is_dir():
        pytest.skip(f"no LPIPS weights at {root}: set MAESIL_TEST_DATA")
    return root
