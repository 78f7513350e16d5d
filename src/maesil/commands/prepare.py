"""`maesil prepare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tyro

from maesil.commands.parsing import console, parse, print_json
from maesil.errors import ConfigError
from maesil.screen import prepare_text, scan_bar
from maesil.store.prepare import PrepareConfig, PrepareReport

OF_LABELS = ("--label-names", "--missing-labels", "--labels-on-another-grid")
"""Flags that have no effect on a call without --labels."""


@dataclass(frozen=True)
class Prepare:
    """Convert scans into a store that training can read fast.

    If killed at any point, run the same command again to continue. A bad scan does not stop the others: it is listed
    with the reason, at the end and in STORE/quarantine.jsonl, and the exit status is 1.

    Examples:
      maesil prepare scans/ --out store
      maesil prepare btcv/ lidc/ --out store --spacing-mm 1.5
      maesil prepare scans/ --out store --policy cube
      maesil prepare totalsegmentator/ --out store --labels          (for downstream tasks)
      maesil prepare scans/ --out store --scheduler tcp://node1:8786
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Files, DICOM folders, or folder trees that contain them."""
    out: Path
    """The store to write or to continue."""
    config: tyro.conf.OmitArgPrefixes[PrepareConfig] = field(default_factory=PrepareConfig)
    """Resampling and layout."""
    scheduler: str | None = None
    """Address of a running dask scheduler; by default, local processes are used."""
    workers: int | None = None
    """Number of local processes, by default one per core; 0 uses the main process."""
    json: bool = False
    """Print the outcome as JSON on standard output."""


def main(words: Sequence[str]) -> int:
    """Prepares the scans, then lists what was left out."""
    call = parse(Prepare, "prepare", words)
    if not call.config.labels:
        _require_labels(words)
    from maesil import pipeline

    screen = console()
    with scan_bar(screen, "preparing") as progress:
        report = pipeline.prepare(
            call.sources, call.out, call.config, scheduler=call.scheduler, workers=call.workers, progress=progress
        )
    screen.print(prepare_text(report, call.out, chose_missing=_is_given("--missing-labels", words)), markup=False)
    if call.json:
        print_json(_told(report))
    return 1 if report.quarantined else 0


def _is_given(flag: str, words: Sequence[str]) -> bool:
    """Whether a flag was given, with its default, too."""
    return any(word.partition("=")[0].replace("_", "-") == flag for word in words)


def _require_labels(words: Sequence[str]) -> None:
    """Refuses flags about labels in a call that reads none: they would be ignored."""
    if unread := [flag for flag in OF_LABELS if _is_given(flag, words)]:
        needs = "needs" if len(unread) == 1 else "need"
        raise ConfigError(f"{' and '.join(unread)} {needs} --labels: without it, no label is read", fix="add --labels")


def _told(report: PrepareReport) -> dict[str, Any]:
    """The report without the files of stored scans: only the private table of names may tell them.

    Files of this call that became no scan keep their paths, as nothing else tells which they are.
    """
    told = asdict(report)
    del told["places"]
    for row in told["quarantined"]:
        del row["other"]
    return told
