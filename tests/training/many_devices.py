"""`maesil WORDS...`; the first process of the run also writes RUN/gradients-STEP: python many_devices.py RUN WORDS...

Lightning starts the other processes by the same words.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from maesil.cli import main
from maesil.training.module import PretrainModule

clip = PretrainModule.configure_gradient_clipping


def clip_and_write(module: PretrainModule, *arguments: Any, **named: Any) -> None:
    """Gradients are complete, and averaged over the processes, when they are clipped."""
    if module.trainer.is_global_zero:
        gradients = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
        save_file(gradients, Path(sys.argv[1]) / f"gradients-{module.global_step}.safetensors")
    clip(module, *arguments, **named)


if __name__ == "__main__":
    PretrainModule.configure_gradient_clipping = clip_and_write  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
