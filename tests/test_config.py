from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from maesil.config import RunConfig, changed_keys, dump_yaml, from_dict, load_yaml, to_dict
from maesil.errors import ConfigError
from maesil.masking import MASKINGS, UniformMasking
from maesil.presets import PRESETS


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("masking", list(MASKINGS))
def test_yaml__round_trip(name: str, masking: str, tmp_path: Path) -> None:
    config = replace(PRESETS[name](), masking=MASKINGS[masking]())
    config = replace(config, data=replace(config.data, store=Path("some/store")))
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config))
    assert load_yaml(path) == config
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"trian": {}}, "unknown setting 'trian'", "did you mean 'train'"),
        ({"train": {"stepz": 3}}, "unknown setting 'train.stepz'", "did you mean 'steps'"),
        ({"data": {"holdout": {"bye": "patient"}}}, "unknown setting 'data.holdout.bye'", "did you mean 'by'"),
        ({"masking": {"name": "dual", "axis_ration": 0.5}}, "masking.axis_ration", "did you mean 'axis_ratio'"),
        ({"train": {"steps": -1}}, "train.steps", "given: -1"),
        ({"masking": {"name": "duel"}}, "unknown masking 'duel'", "did you mean 'dual'"),
        ({"model": {"superpatch": [60, 64, 64]}}, "does not divide", ""),
    ],
)
def test_from_dict__names_the_bad_key(values: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(values, where="run.yaml")
    assert message in str(caught.value)
    assert hint in str(caught.value)


def test_load_yaml__bad_files_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_yaml(tmp_path / "absent.yaml")
    path = tmp_path / "bad.yaml"
    path.write_text("train: [unclosed")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_yaml(path)
    path.write_text("- a list")
    with pytest.raises(ConfigError, match="mapping of sections"):
        load_yaml(path)


def test_changed_keys__looks_at_science_only() -> None:
    before = RunConfig()
    after = replace(before, seed=3, masking=UniformMasking(), efficiency=replace(before.efficiency, workers=7))
    assert changed_keys(before, before) == []
    changed = changed_keys(before, after)
    assert "seed" in changed
    assert "masking.name" in changed
    assert not any(key.startswith("efficiency") for key in changed)
