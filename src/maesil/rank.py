"""The rank of this process in its run."""

from __future__ import annotations

import os

GLOBAL = "RANK"
"""Environment variable of torchrun with the rank over all machines: where it is set, it counts alone."""
VARIABLES = ("LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
"""Environment variables of Lightning and SLURM with ranks on a machine, over all machines, or of the machine: where
RANK is not set, the first process is the one in which all that are set are 0."""


def is_first_rank() -> bool:
    """Whether this process speaks and writes for its run: with one process per device, only the first does."""
    if GLOBAL in os.environ:
        return os.environ[GLOBAL] == "0"
    return all(os.environ.get(name, "0") == "0" for name in VARIABLES)
