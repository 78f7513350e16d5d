"""Files that maesil itself wrote next to scans: they are neither scans nor labels of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from maesil.counts import count_of, some_of
from maesil.ct.write import MASK, has_mark, is_marked
from maesil.datasets.labels import STRUCTURES
from maesil.datasets.names import NAMED, stem_of
from maesil.datasets.scan import FoundScans


def is_output(path: Path) -> bool:
    """Whether maesil wrote a file, and nobody changed it since; a mask of tokens is told by its name, too."""
    return stem_of(path.name).endswith(MASK) or is_marked(path)


def without_outputs(found: FoundScans, given: Path | None) -> FoundScans:
    """The scans and labels that maesil did not write; `outputs` lists the others.

    What it wrote and somebody changed may be labels, and is no scan.

    The file `given`, the only one of a call, is read, whoever wrote it. A folder of structures is not looked into: it
    has a hundred files, and maesil writes none of this kind.
    """
    labels = [*found.taken_for_labels, *(path for scan in found.scans for path in scan.labels)]
    looked_at = {*(scan.path for scan in found.scans), *(path for path in labels if path.parent.name != STRUCTURES)}
    outputs = {path for path in looked_at if path != given and is_output(path)}
    changed = {scan.path for scan in found.scans if scan.path not in {*outputs, given} and has_mark(scan.path)}
    if not outputs and not changed:
        return found
    scans = [scan for scan in found.scans if scan.path not in outputs | changed]
    lone = [path for scan in found.scans if scan not in scans for path in scan.labels]
    lone += sorted(changed)
    left = [tuple(_others(scan.labels, outputs)) for scan in scans]
    return replace(
        found,
        scans=tuple(
            replace(scan, labels=own, label_names=scan.label_names if own else ())
            for scan, own in zip(scans, left, strict=True)
        ),
        labels=found.labels - sum(path in outputs for path in labels),
        taken_for_labels=tuple(_others([*found.taken_for_labels, *lone], outputs)),
        outputs=tuple(sorted({*found.outputs, *outputs})),
    )


def outputs_text(outputs: Sequence[Path | str]) -> str:
    """Which files are left out, as maesil wrote them, and how to read one as a scan or as labels."""
    what = count_of(len(outputs), "file that maesil wrote is", "files that maesil wrote are")
    return (
        f"{what} left out: {some_of(list(map(str, outputs)), NAMED)}; to read one as a scan, give it as the only "
        "file of a call; to use one as labels, name it in the list that `maesil datasets --out` writes"
    )


def _others(paths: Iterable[Path], outputs: set[Path]) -> list[Path]:
    return [path for path in paths if path not in outputs]
