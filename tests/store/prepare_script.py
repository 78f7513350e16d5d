"""A `prepare` in a process of its own, to be killed: SOURCE OUT WORKERS."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from maesil.store.prepare import PrepareConfig, prepare


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    source, out, workers = sys.argv[1:4]
    config = PrepareConfig(spacing_mm=1.5, chunk=16, shard=32, salt="test")
    prepare([Path(source)], Path(out), config, workers=int(workers))


if __name__ == "__main__":
    main()
