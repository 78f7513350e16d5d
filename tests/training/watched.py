"""`maesil WORDS...` that reports what its ranks hold, and fails on request: python watched.py RUN WORDS...

At every step it writes RUN/gradients-STEP (as they are before they are clipped) and RUN/clipped-STEP, both whole; in
the first, RUN/shares-RANK.json: how many numbers of each weight the rank holds, and how many there are.

In the environment, `WATCHED` may be a Python dictionary: {"step": 5, "do": "stop"}, or "stop job", "kill", "spoil". In
that step the last rank alone sends SIGTERM to itself, or to its launcher as SLURM does, and goes on when it has come
back; sends itself SIGKILL; or takes NaN for a gradient that it holds a share of. So no test waits for the moment.
"spoil" makes the first rank slow, too: it goes on with the error only when Lightning has seen the other rank end.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from maesil.cli import main
from maesil.training.callbacks import GracefulStop
from maesil.training.module import PretrainModule
from maesil.training.sharding import gathered

clip = PretrainModule.configure_gradient_clipping
POLL_S = 0.2
plan: dict[str, Any] = ast.literal_eval(os.environ.get("WATCHED", "{}"))


def watched_clip(module: PretrainModule, *arguments: Any, **named: Any) -> None:
    """Gradients are complete, and averaged over the ranks, when they are clipped."""
    if module.global_step == 0:
        write_shares(module)
    if module.global_step == plan.get("step") and module.global_rank == module.trainer.world_size - 1:
        fail(module, plan["do"])
    if module.global_step == plan.get("step") and plan["do"] == "spoil" and module.trainer.is_global_zero:
        be_slow(list(module.trainer.strategy.launcher.procs))  # type: ignore[union-attr]
    write_gradients(module, "gradients")
    clip(module, *arguments, **named)
    write_gradients(module, "clipped")


def write_shares(module: PretrainModule) -> None:
    """[held here, whole] of every weight, and of its gradient."""
    shares = {name: [local(value).numel(), value.numel()] for name, value in module.named_parameters()}
    gradients = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
    assert all(local(gradient).numel() == shares[name][0] for name, gradient in gradients.items())
    (Path(sys.argv[1]) / f"shares-{module.global_rank}.json").write_text(json.dumps(shares))


def write_gradients(module: PretrainModule, what: str) -> None:
    """Whole, by the first rank."""
    gradients = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
    found = gathered(gradients, keep=module.trainer.is_global_zero)
    if module.trainer.is_global_zero:
        save_file(found, Path(sys.argv[1]) / f"{what}-{module.global_step}.safetensors")


def fail(module: PretrainModule, how: str) -> None:
    """What `WATCHED` says."""
    if how == "spoil":
        local(module.get_parameter("model.encoder.blocks.0.mlp.0.weight").grad)[-1, -1] = float("nan")
    elif how == "stop job":
        os.kill(os.getppid(), signal.SIGTERM)
        (stop,) = (each for each in module.trainer.callbacks if isinstance(each, GracefulStop))  # type: ignore[attr-defined]
        while not stop.requested:
            time.sleep(0.01)
    else:
        signal.raise_signal({"stop": signal.SIGTERM, "kill": signal.SIGKILL}[how])


def be_slow(others: list[subprocess.Popen[bytes]]) -> None:
    """Lets this rank tear down after an error only when the others have ended, and their end has been noticed."""
    teardown = pl.Trainer._teardown

    def slow(trainer: pl.Trainer) -> None:
        for other in others:
            other.wait()
        time.sleep(10 * POLL_S)
        teardown(trainer)

    pl.Trainer._teardown = slow  # type: ignore[method-assign]


def poll_often() -> None:
    """Lets Lightning's observer of the other ranks look more often than every 5 seconds."""
    begin = _ChildProcessObserver.__init__
    _ChildProcessObserver.__init__ = functools.partialmethod(begin, sleep_period=POLL_S)  # type: ignore[method-assign,assignment]


def local(tensor: Any) -> Any:
    """The share of a tensor that this rank holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


if __name__ == "__main__":
    poll_often()
    PretrainModule.configure_gradient_clipping = watched_clip  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
