from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Touch  # type: ignore[import-not-found]

from maesil.datasets import find_scans
from maesil.errors import ConfigError
