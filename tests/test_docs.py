"""Lines of the documentation that other programs have to understand."""

from __future__ import annotations

import shlex
from pathlib import Path

from torch.distributed.run import parse_args

DOCS = Path(__file__).parents[1] / "docs"


def test_reproducing__torchrun_takes_the_line_as_it_stands() -> None:
    lines = (DOCS / "reproducing.md").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("torchrun "))
    parsed = parse_args(shlex.split(line)[1:])
    assert parsed.training_script == "maesil"
    assert parsed.training_script_args[0] == "pretrain"
    assert "--run" in parsed.training_script_args, "an option of ours, which torchrun would take for one of its own"
