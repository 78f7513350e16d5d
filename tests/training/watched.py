"""`maesil WORDS...` that reports what its ranks hold, and fails on request: python watched.py RUN WORDS...

At every step it writes RUN/gradients-STEP (as they are before they are clipped) and RUN/clipped-STEP, both whole; in
the first, RUN/shares-RANK.json: how many numbers of each weight the rank holds, and how many there are.

In the environment, `WATCHED` may be a Python dictionary: {"step": 5, "do": "stop"}, or "stop job", "kill", "spoil". In
that step the last rank alone sends SIGTERM to itself, or to its launcher as SLURM does, and goes on when it has come
back; sends itself SIGKILL; or takes NaN for a gradient that it holds a share of. So no test waits for the moment.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from maesil.cli import main
from maesil.training.module import PretrainModule
from maesil.training.sharding import gathered

clip = PretrainModule.configure_gradient_clipping
plan: dict[str, Any] = ast.literal_eval(os.environ.get("WATCHED", "{}"))


def watched_clip(module: PretrainModule, *arguments: Any, **named: Any) -> None:
    """Gradients are complete, and averaged over the ranks, when they are clipped."""
    if module.global_step == 0:
        write_shares(module)
    if module.global_step == plan.get("step") and module.global_rank == module.trainer.world_size - 1:
        fail(module, plan["do"])
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
        before = signal.getsignal(signal.SIGTERM)
        os.kill(os.getppid(), signal.SIGTERM)
        while signal.getsignal(signal.SIGTERM) == before:  # `GracefulStop` puts the former one back
            time.sleep(0.01)
    else:
        signal.raise_signal({"stop": signal.SIGTERM, "kill": signal.SIGKILL}[how])


def local(tensor: Any) -> Any:
    """The share of a tensor that this rank holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


if __name__ == "__main__":
    PretrainModule.configure_gradient_clipping = watched_clip  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
