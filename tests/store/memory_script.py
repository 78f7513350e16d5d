"""Prepares one scan and prints how far the process's memory rose above what it was before: SOURCE OUT POLICY."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from maesil.store.prepare import PrepareConfig, prepare


def peak() -> int:
    """Highest memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage begins with what the parent had
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    source, out, policy = sys.argv[1:4]
    small, large = Path(source) / "small.nii", Path(source) / "large.nii"
    # A small scan first: it loads every library and starts every thread that the large one needs.
    warm = PrepareConfig(policy=policy, cube=32, salt="test")  # type: ignore[arg-type]
    prepare([small], Path(out).with_name("warm"), warm, workers=0)
    before = peak()
    prepare([large], Path(out), PrepareConfig(policy=policy, cube=512, salt="test"), workers=0)  # type: ignore[arg-type]
    Path(out, "peak.json").write_text(json.dumps(peak() - before))


if __name__ == "__main__":
    main()
