"""A run on WORLD CPU processes: python many_devices.py SETTINGS RUN WORLD; the first one writes RUN/gradients-STEP.

Lightning starts the other processes by the same words.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from maesil import pipeline
from maesil.config import load_yaml
from maesil.training.module import PretrainModule

clip = PretrainModule.configure_gradient_clipping


def clip_and_write(module: PretrainModule, *arguments: Any, **named: Any) -> None:
    """Gradients are complete, and averaged over the processes, when they are clipped."""
    if module.trainer.is_global_zero:
        gradients = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
        save_file(gradients, Path(sys.argv[2]) / f"gradients-{module.global_step}.safetensors")
    clip(module, *arguments, **named)


def main() -> None:
    config, run, world = load_yaml(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
    PretrainModule.configure_gradient_clipping = clip_and_write  # type: ignore[method-assign]
    pipeline.pretrain(replace(config, efficiency=replace(config.efficiency, devices=world)), run)


if __name__ == "__main__":
    main()
