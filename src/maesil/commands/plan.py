"""`maesil plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maesil.commands.parsing import Settings, console, lists, parse, print_json
from maesil.commands.pretrain import starting_point
from maesil.config import RunConfig
from maesil.presets import PRESETS
from maesil.progress import scan_bar


@lists(presets=PRESETS)
@dataclass(frozen=True)
class Plan:
    """What a pre-training will need, before it starts: memory, hours, passes over the store, disk.

    Takes a few real steps on this device and writes nothing: about a minute, or three steps of one superpatch.
    PRESET is one of: {presets}; all settings of `maesil pretrain` are flags here, too.

    Examples:
      maesil plan base --data.store store
      maesil plan paper --data.store store --train.batch 8 --device-gib 24
      maesil plan --config runs/base/config.yaml --json
    """

    config: Settings[RunConfig]
    """The run's settings."""
    device_gib: float | None = None
    """Memory of the GPU that the batch should fit, in GiB; by default, that of this device."""
    seconds: float = 60.0
    """About how long to measure; steps of one superpatch are always taken."""
    json: bool = False
    """Print the estimate as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Prints the estimate."""
    base, rest = starting_point(list(words), "plan")
    call = parse(Plan, "plan", rest, Plan(config=base))
    from maesil import pipeline
    from maesil.allocator import EVERYTHING, keep_freed_memory
    from maesil.planning.text import estimate_text

    keep_freed_memory(EVERYTHING)  # as `maesil pretrain`
    with scan_bar(console(), "measuring") as progress:
        estimate = pipeline.plan(call.config, device_gib=call.device_gib, seconds=call.seconds, progress=progress)
    if call.json:
        print_json(estimate.to_dict())
    else:
        print(estimate_text(estimate, call.config))  # noqa: T201 (the result, on standard output)
    return 0
