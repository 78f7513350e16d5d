"""The layouts by name, and the choice of one for a source."""

from __future__ import annotations

from pathlib import Path

from maesil.catalog import Catalog
from maesil.datasets.btcv import BTCV
from maesil.datasets.layout import Layout
from maesil.datasets.lidc import LIDC
from maesil.datasets.nnunet import NNUNet
from maesil.datasets.totalsegmentator import TotalSegmentator
from maesil.datasets.tree import Tree

LAYOUTS: Catalog[Layout] = Catalog(
    "layout", {layout.name: layout for layout in (BTCV(), LIDC(), TotalSegmentator(), NNUNet(), Tree())}
)
"""The layouts in the order in which they are tried: the most specific first, a plain tree last."""


def matching_layout(source: Path) -> tuple[Layout, str]:
    """The first layout that a source matches, and why."""
    for layout in LAYOUTS.values():
        because = layout.match(source)
        if because is not None:
            return layout, because
    raise AssertionError("an existing source is at least a plain tree")
