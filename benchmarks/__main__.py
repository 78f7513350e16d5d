"""``python -m benchmarks NAME [--json] [...]``: runs a benchmark, prints the result, and writes its JSON and plot."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from benchmarks.harness import Report, publish

BENCHMARKS = {
    "step": "a training step, compared with MONAI's MaskedAutoEncoderViT",
    "fusion": "steps with the overlapping head and of the fusion, and the kriged fill alone",
    "data": "reading random superpatches, compared with other readers",
    "prepare": "preparing a store, compared with MONAI's transforms",
    "infer": "evaluate, reconstruct, embed, predict",
    "scaling": "pre-training on one process and on two",
    "plan": "the estimate of `maesil plan`, compared with the run",
}
"""Modules with `main(words) -> Report`, imported only on request, as they need different packages."""


def main(words: Sequence[str]) -> int:
    if not words or words[0] not in BENCHMARKS:
        asked = words in (["-h"], ["--help"])
        lines = [f"  {name:<9} {what}" for name, what in BENCHMARKS.items()]
        print(
            "usage: python -m benchmarks NAME [--help] [...]",
            *lines,
            sep="\n",
            file=sys.stdout if asked else sys.stderr,
        )
        return 0 if asked else 2
    name, *rest = words
    report: Report = importlib.import_module(f"benchmarks.{name}").main(rest)
    publish(report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
