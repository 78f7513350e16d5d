"""Pre-training on several processes (gloo, on the CPU)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from maesil.config import RunConfig, dump_yaml
from maesil.runs.pretrain import pretrain

WATCHED = Path(__file__).with_name("training") / "watched.py"


def on(config: RunConfig, world: int, **efficiency: Any) -> RunConfig:
    """The same global batch on `world` processes: what one does after the other, two do at once."""
    train = replace(config.train, accumulate=2 // world)
    return replace(config, train=train, efficiency=replace(config.efficiency, devices=world, **efficiency))


def launch(
    config: RunConfig, run: Path, world: int, watched: Mapping[str, Any] | None = None, *, alone: bool = False
) -> subprocess.Popen[str]:
    """`maesil pretrain` through the recipe's own launcher.

    Args:
        config: Of the run; written beside its folder.
        run: The run folder.
        world: Processes.
        watched: Run by `training/watched.py`, and what that is to do.
        alone: Without a launcher: the first process starts the others, and ends as it ends.
    """
    settings = run.with_suffix(f".{world}.yaml")
    settings.write_text(dump_yaml(config))
    module, program = ([], [str(WATCHED), str(run)]) if watched is not None else (["-m"], ["maesil"])
    command = [sys.executable, *module, *program]
    if world > 1 and not alone:  # without "--", torchrun takes --run for an option of its own
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
        command = [sys.executable, *torchrun, *module, "--", *program]
    command += ["pretrain", "--config", str(settings), "--run", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "WATCHED": str(watched or {})}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def train_here(config: RunConfig, run: Path) -> None:
    """The same pre-training on one process, this one: a reference without a start of its own."""
    assert pretrain(on(config, 1), run).status == "finished"


def finish(process: subprocess.Popen[str]) -> None:
    """Waits for its end, which must be a good one."""
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of the last checkpoint."""
    return load_file(run / "checkpoints" / "last" / "model.safetensors")


def assert_same(first: Path, second: Path, atol: float = 2e-5) -> None:
    """The weights that two runs end with, up to rounding."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name in one:
        expected, found = (meaningful(name, tensors[name]) for tensors in (one, other))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=atol, msg=name)


def meaningful(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Without the keys' biases: they change no attention, so their gradients are rounding that AdamW makes steps of."""
    if not name.endswith("attention.qkv.bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])
