"""``python -m benchmarks NAME [--json] [...]``: runs one benchmark, prints it, writes its JSON and its plot."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from benchmarks.harness import Report, publish

BENCHMARKS = ("step", "data", "prepare", "infer", "scaling")
"""Each is a module with `main(words) -> Report`; imported only when named, so that its needs are its own."""


def main(words: Sequence[str]) -> int:
    if not words or words[0] not in BENCHMARKS:
        print(f"usage: python -m benchmarks {'|'.join(BENCHMARKS)} [--json] [--help]", file=sys.stderr)
        return 2
    name, *rest = words
    report: Report = importlib.import_module(f"benchmarks.{name}").main(rest)
    publish(report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
