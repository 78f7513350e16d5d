"""A `prepare` in a process of its own, to be killed: SOURCE OUT WORKERS [HOLD].

With HOLD, it and its workers go no further than to a piece of the scan after the HOLD-th: no test waits for the moment.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

from maesil.store import arrays
from maesil.store.prepare import PrepareConfig, prepare

write_box = arrays.write_box


def write_and_hold(*arguments: Any) -> None:
    """Writes, and goes on for ever where enough scans are whole."""
    write_box(*arguments)
    while len(list(Path(sys.argv[2]).glob("scans/[!.]*/zarr.json"))) >= int(sys.argv[4]):
        time.sleep(0.05)


if len(sys.argv) > 4:  # in the workers, too: they import this
    arrays.write_box = write_and_hold


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    source, out, workers = sys.argv[1:4]
    config = PrepareConfig(spacing_mm=1.5, chunk=16, shard=32, salt="test")
    prepare([Path(source)], Path(out), config, workers=int(workers))


if __name__ == "__main__":
    main()
