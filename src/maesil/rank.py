"""The rank of this process in its run."""

from __future__ import annotations

import os
from collections.abc import Sequence

GLOBAL = "RANK"
"""Environment variable of torchrun with the rank over all machines: where it is set, it counts alone."""
VARIABLES = ("LOCAL_RANK", "SLURM_PROCID")
"""Environment variables of Lightning and SLURM with the rank; the first one set counts."""
NODES = ("NODE_RANK", "GROUP_RANK")
"""Environment variables of Lightning with the number of the machine, of which LOCAL_RANK tells nothing, and which is
all that the first process of a machine knows; the first one set counts."""


def is_first_rank() -> bool:
    """Whether this process speaks and writes for its run: with one process per device, only the first does."""
    if GLOBAL in os.environ:
        return os.environ[GLOBAL] == "0"
    return _first(VARIABLES) == _first(NODES) == "0"


def _first(names: Sequence[str]) -> str:
    """The value of the first of some environment variables that is set; 0 if none is."""
    return next((os.environ[name] for name in names if name in os.environ), "0")
