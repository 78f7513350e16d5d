"""The rank of this process in its run."""

from __future__ import annotations

import os

VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Environment variables of torchrun, Lightning and SLURM with the rank; the first one set counts."""


def is_first_rank() -> bool:
    """Whether this process speaks and writes for its run: with one process per device, only the first does."""
    return next((os.environ[name] for name in VARIABLES if name in os.environ), "0") == "0"
