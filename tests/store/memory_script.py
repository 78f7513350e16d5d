"""Prepares a scan and writes how far the process's memory rose above what it was before: SMALL LARGE OUT POLICY."""

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
    small, large, out = (Path(word) for word in sys.argv[1:4])
    policy = sys.argv[4]
    # A small scan first: it loads every library and starts every thread that the large one needs.
    warm = PrepareConfig(policy=policy, cube=32, salt="test")  # type: ignore[arg-type]
    prepare([small], out.with_name("warm"), warm, workers=0)
    before = peak()
    report = prepare([large], out, PrepareConfig(policy=policy, cube=512, salt="test"), workers=0)  # type: ignore[arg-type]
    assert len(report.prepared) == 1, report.quarantined
    (out / "peak.json").write_text(json.dumps(peak() - before))


if __name__ == "__main__":
    main()
