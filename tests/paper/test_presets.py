"""The paper's presets draw what the paper partitions a volume into (§III-A, Fig. 2)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from maesil.config import dump_yaml
from maesil.ct.geometry import Geometry
from maesil.errors import ConfigError
from maesil.presets import PRESETS
from maesil.runs.pretrain import settle
from maesil.sampling.plan import make_plan
from maesil.sampling.regions import Region, overlap
from maesil.store.scanstore import ScanEntry
from maesil.tiling import Tiling

EDGE = 128
CUBE = (512, 512, 512)


def cube() -> Region:
    """A scan of 512^3 voxels, tissue everywhere."""
    geometry = Geometry.from_parts(CUBE, (1.0, 1.0, 1.0))
    entry = ScanEntry(
        scan_id="cube", dataset="set", patient="cube", geometry=geometry, spacing_mm=(1.0, 1.0, 1.0), shape=CUBE,
        tissue_share=1.0, source_sha256="0" * 64, source_geometry=geometry,
    )  # fmt: skip
    tiling = Tiling(CUBE, (EDGE, EDGE, EDGE))
    return Region(entry, tiling, tuple(tiling), (), np.full((32, 32, 32), 255, dtype=np.uint8))


@pytest.mark.parametrize("name", ["paper", "paper_union"])
def test_preset__a_512_cube_is_64_draws_each_once_and_none_overlapping(name: str) -> None:
    config = PRESETS[name]()
    assert config.model.superpatch == (EDGE, EDGE, EDGE)
    plan = make_plan([cube()], config.data, config.seed)
    assert len(plan) == 64
    for turn in range(2):
        origins = [plan.place(turn * 64 + number).origin for number in range(64)]
        assert max(Counter(origins).values()) == 1
        assert not any(overlap(one, other, (EDGE, EDGE, EDGE)) for one, other in combinations(origins, 2))
        assert all(start >= 0 and start + EDGE <= 512 for origin in origins for start in origin), "padding"


@pytest.mark.parametrize("name", ["paper", "paper_union"])
def test_preset__a_run_that_began_with_random_crops_does_not_go_on_with_the_grid(name: str, tmp_path: Path) -> None:
    config = PRESETS[name]()
    (tmp_path / "config.yaml").write_text(dump_yaml(replace(config, data=replace(config.data, sampling="random"))))
    with pytest.raises(ConfigError, match=r"other settings: data\.sampling is random there, grid here") as refused:
        settle(config, tmp_path)
    assert refused.value.fix is not None
    assert "--run" in refused.value.fix
