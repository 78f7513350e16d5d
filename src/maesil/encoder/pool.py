"""What is kept of many tokens; apart from the tokens themselves, as commands know it without torch."""

from __future__ import annotations

from typing import Literal

Pool = Literal["mean", "mean_std"]
"""The tokens' mean, or their mean and standard deviation."""
