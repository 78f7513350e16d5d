"""The preset `ablation-masking`, whole: every model trained for a step, and only what can be compared is ranked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from maesil import pipeline
from maesil.comparison import experiment
from maesil.comparison.budget import Budget
from maesil.comparison.model_sets import MODEL_SETS
from maesil.comparison.result import OWN_MASKS, RANKED, TOLD
from maesil.comparison.tables import paired_csv, table2
from maesil.config import RunConfig, load_yaml
from maesil.evaluation.protocol import Protocol


@pytest.mark.slow
def test_ablation__ranks_what_hides_the_same_and_is_told_the_same(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process for each of eight models would take a minute to import the same packages.
    monkeypatch.setattr(experiment, "pretrain_apart", lambda config, run: pipeline.pretrain(load_yaml(config), run))
    config = replace(tiny_config, monitor=replace(tiny_config.monitor, validate_every=0))
    model_set = MODEL_SETS["ablation-masking"](config)
    found, page = pipeline.compare(
        config, model_set, Budget("steps", 1.0), tmp_path / "out", protocol=Protocol(lpips=None), pictures=1
    )
    assert [result.failed for result in found.results] == [None] * len(model_set.specs)
    sees = found.sees
    assert sees["patch 16"] == OWN_MASKS
    assert sees["normalised targets"] == TOLD
    assert {row for row in sees if sees[row] not in RANKED} == {
        "patch 16",
        "normalised targets",
        *(f"{name} 75 %, own masks" for name in ("uniform", "plane", "axis")),
        "dual 87.5 %, own masks",
    }
    sheet = table2(found)[0]
    best = {sheet.rows[row][0] for row, _ in sheet.best}
    assert best
    assert best <= {row for row in sees if sees[row] in RANKED}
    assert any(note.startswith("normalised targets: told the true mean and deviation") for note in sheet.notes)
    tested = paired_csv(found)
    assert "uniform 75 %" in tested
    assert not any(name in tested for name in ("patch 16", "normalised targets", "own masks"))
    assert page.is_file()
