"""Trains `demo` for many steps in one process, and compares its memory at the end with that after a tenth of the steps.

    python tests/soak.py --steps 10000        (make soak)

The scan is synthetic; it is validated and saved as often as in `demo`. Prints the resident memory along the way, and a
summary as JSON. Exit status 1: the memory grew by more than 2 %.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from labelled import labelled_store

GROWTH = 0.02
"""Largest growth of the memory, as a share."""
EVERY_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("rest", nargs="*", help="further flags of maesil pretrain, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maesil-soak-") as home:
        store, run = labelled_store(Path(home)), Path(home) / "run"
        words = ["pretrain", "demo", "--data.store", str(store), "--run", str(run), "--train.steps", str(options.steps)]
        seen = memory_of([sys.executable, "-m", "maesil", *words, *options.rest], run)
    early, late = at(seen, options.steps // 10), at(seen, options.steps)
    growth = late / early - 1
    print(json.dumps({"steps": options.steps, "early_mib": early, "late_mib": late, "growth": round(growth, 4)}))  # noqa: T201
    return int(growth > GROWTH)


def memory_of(command: list[str], run: Path) -> list[tuple[int, float]]:
    """Steps that were logged, and resident MiB at that time, of a command while it runs."""
    seen = list[tuple[int, float]]()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    child = psutil.Process(process.pid)
    while process.poll() is None:
        step = steps_logged(run / "logs" / "metrics.csv")
        try:
            mib = child.memory_info().rss / 2**20
        except psutil.NoSuchProcess:
            break
        if step and (not seen or seen[-1][0] != step):
            seen.append((step, round(mib, 1)))
            print(f"step {step}: {mib:.0f} MiB", flush=True)  # noqa: T201
        try:
            process.wait(EVERY_S)
        except subprocess.TimeoutExpired:
            continue
    if process.wait():
        raise SystemExit(f"the training failed with status {process.returncode}")
    return seen


def steps_logged(log: Path) -> int:
    if not log.is_file():
        return 0
    steps = re.findall(r"^(\d+),", log.read_text(encoding="utf-8"), re.MULTILINE)
    return int(steps[-1]) if steps else 0


def at(seen: list[tuple[int, float]], step: int) -> float:
    """The largest memory of the samples up to a step: peaks of validation count."""
    return max(mib for logged, mib in seen if logged <= step)


if __name__ == "__main__":
    sys.exit(main())
