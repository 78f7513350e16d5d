"""Table I, computed from the files: the content of each collection."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from maesil.ct.readers.base import Facts
from maesil.datasets.copies import same_patients
from maesil.datasets.facts import superpatches_of
from maesil.datasets.labels import classes_of
from maesil.datasets.scan import Scan
from maesil.datasets.splits import SPLITS, SplitConfig, divide_together
from maesil.datasets.weighting import Weighting, draw_shares, power_of


@dataclass(frozen=True)
class Overview:
    """One row of Table I: a collection.

    Attributes:
        dataset: Name of the collection.
        layout: Name of its layout on disk.
        region: Region of the body.
        scans: Number of scans that can be read, judging by their headers.
        patients: Number of patients; those who share the bytes of a scan are one.
        in_plane_mm: Smallest, median and largest voxel size within slices.
        slice_mm: Smallest, median and largest distance between slices.
        slices: Smallest, median and largest number of slices.
        labelled: Number of scans with labels.
        classes: Number of structures that its labels mark; None if names do not tell them all, as voxels are not read.
        splits: Numbers of scans in train, val and test.
        drawn: Share of the draws in training, 0 to 1, estimated from headers.
        weighting: Weighting of that share, in words.
    """

    dataset: str
    layout: str
    region: str
    scans: int
    patients: int
    in_plane_mm: tuple[float, float, float]
    slice_mm: tuple[float, float, float]
    slices: tuple[float, float, float]
    labelled: int
    classes: int | None
    splits: tuple[int, int, int]
    drawn: float
    weighting: str


UNREAD = "not read"
"""The cell of what only voxels say."""

HEADER = (
    "dataset", "layout", "region", "scans", "patients", "in-plane mm", "slice distance mm", "slices", "labelled scans",
    "classes", "train / val / test", "drawn in training",
)  # fmt: skip


def overview(
    scans: Sequence[Scan],
    facts: Mapping[str, Facts],
    layouts: Mapping[str, tuple[str, str]],
    one_of: Mapping[str, str],
    weighting: Weighting = "by-scan",
    temperature: float = 0.5,
) -> list[Overview]:
    """The rows of the collections, in order of appearance.

    Args:
        scans: Scans with their splits.
        facts: Map from scan id to the facts in its header.
        layouts: Map from dataset to the name of its layout and the region of the body.
        one_of: Map from patient to the name that stands for it and its copies.
        weighting: Rule for how often training draws from each; see `maesil.datasets.weighting`.
        temperature: Power for the weighting "temperature".

    Raises:
        ConfigError: The temperature is not in [0, 1].
    """
    grouped: dict[str, list[Scan]] = {}
    for scan in scans:
        grouped.setdefault(scan.dataset, []).append(scan)
    drawn = draw_shares(
        {name: _superpatches(group, facts) for name, group in grouped.items()}, power_of(weighting, temperature)
    )
    words = f"{weighting} {temperature:g}" if weighting == "temperature" else weighting
    return [
        _overview(name, group, facts, one_of, *layouts.get(name, ("", "")), drawn[name], words)
        for name, group in grouped.items()
    ]


def _superpatches(scans: Sequence[Scan], facts: Mapping[str, Facts]) -> int:
    """Number of superpatches in the training scans."""
    train = [scan for scan in scans if scan.split == "train" and scan.scan_id in facts]
    return sum(superpatches_of(facts[scan.scan_id]) for scan in train)


def _overview(
    name: str,
    scans: Sequence[Scan],
    facts: Mapping[str, Facts],
    one_of: Mapping[str, str],
    layout: str,
    region: str,
    drawn: float,
    weighting: str,
) -> Overview:
    known = [facts[scan.scan_id] for scan in scans if scan.scan_id in facts]
    return Overview(
        dataset=name,
        layout=layout,
        region=region,
        scans=len(scans),
        patients=len({one_of[scan.patient] for scan in scans}),
        in_plane_mm=_span([fact.in_plane_mm for fact in known]),
        slice_mm=_span([fact.slice_mm for fact in known]),
        slices=_span([float(fact.slices) for fact in known]),
        labelled=sum(bool(scan.labels) for scan in scans),
        classes=_classes(scans),
        splits=(*(sum(scan.split == split for scan in scans) for split in SPLITS),),  # type: ignore[arg-type]
        drawn=drawn,
        weighting=weighting,
    )


def _classes(scans: Sequence[Scan]) -> int | None:
    """Number of structures of all scans; None if it is not known of one."""
    classes = [classes_of(scan) for scan in scans]
    known = [names for names in classes if names is not None]
    return len(frozenset[str]().union(*known)) if len(known) == len(classes) else None


def rows_of(collections: Sequence[Overview], patients: int) -> list[tuple[str, ...]]:
    """The cells of Table I, with a row of totals if there are several collections.

    Args:
        collections: The collections.
        patients: Number of patients of all of them.
    """
    rows: list[tuple[str, ...]] = [
        (
            row.dataset,
            row.layout,
            row.region,
            f"{row.scans:,}",
            f"{row.patients:,}",
            _text(row.in_plane_mm, 2),
            _text(row.slice_mm, 2),
            _text(row.slices, 0),
            f"{row.labelled:,}",
            UNREAD if row.classes is None else f"{row.classes}",
            " / ".join(map(str, row.splits)),
            f"{row.drawn:.1%} {row.weighting}",
        )
        for row in collections
    ]
    if len(collections) > 1:
        splits = " / ".join(str(sum(row.splits[place] for row in collections)) for place in range(3))
        total = ("all", "", "", f"{sum(row.scans for row in collections):,}")
        rows.append((*total, f"{patients:,}", "", "", "", "", "", splits, ""))
    return rows


def _span(values: Sequence[float]) -> tuple[float, float, float]:
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), statistics.median(finite), max(finite)) if finite else (math.nan,) * 3


def _text(span: tuple[float, float, float], digits: int) -> str:
    least, median, most = span
    if math.isnan(median):
        return "–"
    return f"{median:.{digits}f}" if least == most else f"{median:.{digits}f} ({least:.{digits}f}-{most:.{digits}f})"


def one_of_copies(scans: Iterable[Scan], copies: Iterable[Sequence[Scan]]) -> dict[str, str]:
    """Map from patient to the name that stands for it and for all who share the bytes of a scan with it.

    Args:
        scans: Scans of all patients.
        copies: Groups of scans with the same bytes.
    """
    source = {scan.scan_id: group[0].scan_id for group in copies for scan in group}
    return same_patients((scan.patient, source.get(scan.scan_id, scan.scan_id)) for scan in scans)


def draw_splits(
    scans: Sequence[Scan],
    config: SplitConfig,
    kept: Mapping[tuple[str, str], str],
    one_of: Mapping[str, str],
) -> dict[tuple[str, str], str]:
    """The split of every patient, by dataset and patient.

    Overrides of the user come first, then the collection's own split, then that of an earlier list. The remaining
    patients are divided as training divides those of a store: see `maesil.datasets.splits.divide_together`.

    Args:
        scans: Scans, with the splits of their collections.
        config: Shares, seed and overrides.
        kept: Map from dataset and patient to the split in an earlier list.
        one_of: Map from patient to the name that stands for it and its copies.
    """
    given = {
        (scan.dataset, scan.patient): config.overrides.get(scan.patient)
        or scan.split
        or kept.get((scan.dataset, scan.patient))
        for scan in scans
    }
    drawn = divide_together([(name, split) for (_, name), split in given.items()], one_of, config)
    return {(dataset, name): split or drawn[one_of[name]] for (dataset, name), split in given.items()}
