"""Trains `demo` for many steps in one process, and compares its memory at the end with that at the beginning.

    python tests/soak.py --steps 10000        (make soak)

The scan is synthetic; it is validated and saved as often as in `demo`. The network and its fusion are trained one after
the other, and need different memory: each stage's largest memory is compared with that of its first tenth. Prints the
resident memory along the way, and a summary as JSON. Exit status 1: it grew by more than 2 % in a stage.
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
import yaml

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
        share = float(yaml.safe_load((run / "config.yaml").read_text())["model"]["fusion"]["share"])
    last = options.steps - round(share * options.steps)
    stages = {"network": growth(seen, 0, last), "fusion": growth(seen, last, options.steps + 1)}
    print(json.dumps({"steps": options.steps, **stages}))  # noqa: T201
    return int(any(stage["growth"] > GROWTH for stage in stages.values()))


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


def growth(seen: list[tuple[int, float]], first: int, last: int) -> dict[str, float]:
    """Growth of a stage's largest memory over that of its first tenth: peaks of validation count.

    Memory is sampled after a step was logged, so that of the step `last` may be the next stage's.
    """
    stage = [(step, mib) for step, mib in seen if first < step < last]
    if not stage:
        raise SystemExit(f"no memory was sampled between the steps {first} and {last}: give more --steps")
    early = max(mib for step, mib in stage if step <= max(stage[0][0], first + (last - first) // 10))
    late = max(mib for _, mib in stage)
    return {"early_mib": early, "late_mib": late, "growth": round(late / early - 1, 4)}


if __name__ == "__main__":
    sys.exit(main())
