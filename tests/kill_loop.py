"""Kills real commands at random times until there were enough kills: each, run again, must end as if undisturbed.

    python tests/kill_loop.py --kills 100 --seed 0        (make kill)

`prepare`, `pretrain`, `compare` and `finetune segmentation` take turns, on four small scans. In every round, a command
is killed with SIGKILL, with all processes that it started, up to three times in a row, at times drawn from the duration
of an undisturbed call; then it runs to its end. A store must then have the same bytes, trainings the same weights, and
a comparison the same scores. Exit status 1: one differs, or a command failed. Prints a line per round, and a summary as
JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from labelled import labelled_store

MODEL = (
    "--model.superpatch", "32", "32", "32", "--model.encoder-width", "24", "--model.encoder-depth", "1",
    "--model.encoder-heads", "2", "--model.decoder-width", "12", "--model.decoder-depth", "1",
    "--model.decoder-heads", "2",
)  # fmt: skip
TRAINING = (
    "--train.batch", "2", "--monitor.validate-every", "10", "--monitor.checkpoint-every", "5", "--monitor.image-every",
    "0", "--monitor.log-every", "5", "--efficiency.accelerator", "cpu", "--efficiency.precision", "32-true",
    "--efficiency.threads", "1", "--data.holdout.patients.fractions", "1", "0", "0",
    "--data.holdout.patients.overrides", "c", "val", "d", "test",
)  # fmt: skip
BY_PATIENT = ("--data.holdout.by", "patient", "--data.padded-crops")
UNSCORED = ("--protocol.lpips", "None", "--protocol.mask-draws", "1")


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        name: Name of the command.
        words: Function from the output folder to the command's arguments.
        ends: Function from the output folder to what must not differ.
    """

    name: str
    words: Callable[[Path], list[str]]
    ends: Callable[[Path], dict[str, str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-round", type=int, default=3, help="most kills before a command runs to its end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="names of commands")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="maesil-kill-") as home:
        jobs = [job for job in jobs_in(Path(home)) if not options.only or job.name in options.only]
        counts, differ = kill_all(jobs, Path(home), options.kills, options.per_round, draw)
    print(json.dumps({"kills": counts, "differ": differ, "seed": options.seed}))  # noqa: T201 (the result)
    return 1 if differ else 0


def kill_all(
    jobs: list[Job], home: Path, kills: int, per_round: int, draw: random.Random
) -> tuple[dict[str, int], list[str]]:
    """Kills by command, and the rounds that ended in another way than the undisturbed call."""
    undisturbed = {job.name: finish(job, home / f"{job.name}-undisturbed") for job in jobs}
    counts, differ = {job.name: 0 for job in jobs}, list[str]()
    number = 0
    while sum(counts.values()) < kills:
        job = jobs[number % len(jobs)]
        out, (duration_s, expected) = home / f"{job.name}-{number}", undisturbed[job.name]
        done = 0
        for _ in range(min(per_round, kills - sum(counts.values()))):
            done += kill_once(job, out, draw.uniform(0, duration_s))
        _, found = finish(job, out)
        counts[job.name] += done
        if found != expected:
            differ.append(f"{job.name}, round {number}: {sorted(set(found.items()) ^ set(expected.items()))[:4]}")
        ended = "the same" if found == expected else "DIFFERS"
        print(f"{job.name}: round {number}, {done} kills, {ended}", flush=True)  # noqa: T201 (progress)
        shutil.rmtree(out)
        number += 1
    return counts, differ


def kill_once(job: Job, out: Path, after_s: float) -> bool:
    """Starts a command and kills it; False: it had ended before."""
    process = subprocess.Popen(command(job, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(after_s)
        return False
    except subprocess.TimeoutExpired:
        end_all([psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)])
        process.wait()
        return True


def end_all(processes: Iterable[psutil.Process]) -> None:
    """Kills processes that this one started, the first of them first: it must not notice the end of the others."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def finish(job: Job, out: Path) -> tuple[float, dict[str, str]]:
    """Runs a command to its end; its duration in seconds, and what must not differ."""
    start = time.monotonic()
    done = subprocess.run(command(job, out), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{job.name} failed: {done.stderr[-2000:]}")
    return time.monotonic() - start, job.ends(out)


def command(job: Job, out: Path) -> list[str]:
    return [sys.executable, "-m", "maesil", *job.words(out)]


def jobs_in(home: Path) -> list[Job]:
    """The commands, on a labelled store and an encoder below `home`."""
    os.environ["OMP_NUM_THREADS"] = "1"
    store = labelled_store(home)
    run = home / "encoder"

    def prepare(out: Path) -> list[str]:
        small = ("--chunk", "16", "--shard", "32", "--salt", "kill", "--workers", "2")
        return ["prepare", str(home / "scans"), "--out", str(out), *small]

    def pretrain(out: Path) -> list[str]:
        words = ("pretrain", "demo", "--data.store", str(store), "--run", str(out), "--train.steps", "40")
        return [*words, *MODEL, *TRAINING, *BY_PATIENT]

    def compare(out: Path) -> list[str]:
        words = ("compare", str(store), "--out", str(out), "--models", "maesil,mean", "--beside", "demo")
        return [*words, "--budget", "steps=20", *MODEL, *TRAINING, *UNSCORED]

    def finetune(out: Path) -> list[str]:
        words = ("finetune", "segmentation", "--init", str(run), "--data.store", str(store), "--run", str(out))
        return [*words, "--train.steps", "20", "--model.features", "8", *TRAINING]

    finish(Job("pretrain", pretrain, weights), run)
    return [
        Job("prepare", prepare, files),
        Job("pretrain", pretrain, weights),
        Job("compare", compare, scores),
        Job("finetune", finetune, weights),
    ]


def files(out: Path) -> dict[str, str]:
    """Checksum of every file."""
    return {str(path.relative_to(out)): digest(path) for path in sorted(out.rglob("*")) if path.is_file()}


def weights(out: Path) -> dict[str, str]:
    """Checksum of the weights of every checkpoint that `last` and `best` name."""
    found = sorted(out.rglob("checkpoints/last/*.safetensors"))
    assert found, out
    return {str(path.relative_to(out)): digest(path) for path in found}


def scores(out: Path) -> dict[str, str]:
    """Weights of the models that were compared, and their scores."""
    found = sorted(out.rglob("scores.jsonl"))
    assert found, out
    return {**weights(out), **{str(path.relative_to(out)): digest(path) for path in found}}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
