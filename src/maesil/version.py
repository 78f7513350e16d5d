"""The commit of the running package, and the software around it."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def commit() -> str | None:
    """The commit of the checkout that this package runs from; None if it is installed without one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def software() -> dict[str, str]:
    """Versions of torch and Python, and the kind of machine that run this process."""
    return {
        "torch": version("torch"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
