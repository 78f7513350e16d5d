"""Prepares a folder with a scan, and with labels if it has some: SMALL LARGE OUT POLICY.

Writes how far the process's memory rose above what it was before.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from maesil.memory import GIB, peak_resident_gib
from maesil.store.prepare import PrepareConfig, prepare


def main() -> None:
    small, large, out = (Path(word) for word in sys.argv[1:4])
    policy = sys.argv[4]
    # A small scan first: it loads every library and starts every thread that the large one needs.
    config = PrepareConfig(policy=policy, cube=512, salt="test", labels=True)  # type: ignore[arg-type]
    prepare([small], out.with_name("warm"), replace(config, cube=32), workers=0)
    before = peak_resident_gib()
    report = prepare([large], out, config, workers=0)
    assert len(report.prepared) == 1, report.quarantined
    (out / "peak.json").write_text(json.dumps((peak_resident_gib() - before) * GIB))


if __name__ == "__main__":
    main()
