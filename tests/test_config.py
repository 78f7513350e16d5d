from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from maesil.commands.parsing import parse
from maesil.commands.pretrain import Pretrain, starting_point
from maesil.config import RunConfig, changed_values, dump_yaml, from_dict, load_yaml, to_dict
from maesil.errors import ConfigError
from maesil.evaluation.protocol import Protocol
from maesil.masking import MASKINGS, DualMasking, UniformMasking
from maesil.models import MODELS, MAEConfig, VAEConfig
from maesil.presets import PRESETS
from maesil.presets.ours import ON_VOXELS
from maesil.runs.pretrain import settle
from maesil.sampling.config import DataConfig
from maesil.tasks.classification.config import ClassificationConfig
from maesil.tasks.segmentation import config as segmentation
from maesil.tasks.segmentation.config import FinetuneConfig
from maesil.training.config import TrainConfig


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets__have_their_own_names(name: str) -> None:
    assert PRESETS[name]().preset == name


def test_small__is_the_recipe_of_the_published_weights() -> None:
    folder = resources.files("maesil") / "weights" / "sharp-2mm"
    trained = from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"])
    small = PRESETS["small"]()
    assert isinstance(trained.model, MAEConfig)
    assert isinstance(small.model, MAEConfig)
    shares = [trained.model.fusion.share, small.model.fusion.share]
    assert [round(share * small.train.steps) for share in shares] == [2500, 2500]
    fusion = replace(trained.model.fusion, share=small.model.fusion.share)
    assert replace(trained.model, fusion=fusion) == small.model
    assert (trained.masking, trained.train) == (small.masking, small.train)
    assert trained.data.holdout.by == small.data.holdout.by == "patient"
    assert replace(trained.data, holdout=small.data.holdout) == small.data  # the rest of it is unused by patient


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
    if hint:
        assert caught.value.where == "run.yaml"


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


def test_changed_values__looks_at_science_only() -> None:
    before = RunConfig()
    after = replace(before, seed=3, masking=UniformMasking(), efficiency=replace(before.efficiency, threads=7))
    assert changed_values(before, before) == {}
    changed = changed_values(before, after)
    assert changed["seed"] == (0, 3)
    assert changed["masking.name"] == ("dual", "uniform")
    assert not any(key.startswith("efficiency") for key in changed)


def old_vae(weight: object, **settings: object) -> dict[str, object]:
    """Settings of a run whose KL divergence was summed over a superpatch."""
    return {"model": {"name": "vae", "kl_weight": weight, **settings}}


@pytest.mark.parametrize(
    ("superpatch", "weight", "per_voxel"),
    [
        ([64, 64, 64], 1e-6, 0.262144),
        ([128, 128, 128], 1e-6, 2.097152),
        ([64, 64, 64], 0, 0.0),
        ([8, 16, 8], 1, 1024.0),
    ],
)
def test_from_dict__an_old_kl_weight_keeps_its_meaning(superpatch: list[int], weight: float, per_voxel: float) -> None:
    model = from_dict(old_vae(weight, superpatch=superpatch)).model
    assert isinstance(model, VAEConfig)
    assert model.kl_per_voxel == per_voxel
    assert model.superpatch == tuple(superpatch)


@pytest.mark.parametrize("values", [old_vae(1e-6, kl_per_voxel=0.25), old_vae("much"), old_vae(1.0, superpatch=64)])
def test_from_dict__an_old_kl_weight_that_cannot_be_read_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown setting 'model.kl_weight'.*kl_per_voxel"):
        from_dict(values)


def test_settle__a_run_of_an_old_kl_weight_resumes_with_that_meaning_alone(tmp_path: Path) -> None:
    old = old_vae(1e-6, superpatch=[64, 64, 64])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    given = replace(RunConfig(), model=VAEConfig(superpatch=(64, 64, 64)))
    with pytest.raises(ConfigError, match=r"other settings: model\.kl_per_voxel"):
        settle(given, tmp_path)
    settle(replace(given, model=replace(given.model, kl_per_voxel=0.262144)), tmp_path)


def parts(values: dict[str, object], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where settings hold settings; not `overrides`, whose keys are patients."""
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and key != "overrides":
            yield from parts(value, (*path, key))


KINDS = {
    **{f"model {name}": replace(RunConfig(), model=MODELS[name][0]()) for name in MODELS},
    **{f"masking {name}": replace(RunConfig(), masking=MASKINGS[name]()) for name in MASKINGS},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_from_dict__every_part_refuses_an_unknown_key(kind: str) -> None:
    plain = to_dict(KINDS[kind])
    assert len(list(parts(plain))) > 7
    for path in parts(plain):
        values = copy.deepcopy(plain)
        functools.reduce(lambda part, key: part[key], path, values)["nonsense"] = 1
        with pytest.raises(ConfigError) as caught:
            from_dict(values)
        assert caught.value.what == f"unknown setting '{'.'.join((*path, 'nonsense'))}'"


def test_finetune_config__every_part_refuses_an_unknown_key() -> None:
    plain = segmentation.to_dict(FinetuneConfig())
    for path in parts(plain):
        values = copy.deepcopy(plain)
        functools.reduce(lambda part, key: part[key], path, values)["layer_decai"] = 1
        with pytest.raises(ConfigError) as caught:
            segmentation.from_dict(values, where="run")
        assert caught.value.what == f"unknown setting '{'.'.join((*path, 'layer_decai'))}'"
        assert caught.value.where == "run"
        if path == ("model",):
            assert "did you mean 'layer_decay'?" in str(caught.value.fix)


@pytest.mark.parametrize("part", [DataConfig, DualMasking, MAEConfig, TrainConfig, ClassificationConfig, Protocol])
def test_parts__python_keywords_are_checked_too(part: Callable[..., object]) -> None:
    with pytest.raises(ValidationError, match="nonsense"):
        part(nonsense=1)


def test_from_dict__a_setting_inside_a_model_is_named_without_pydantics_own_steps() -> None:
    with pytest.raises(ConfigError, match=r"setting 'model\.superpatch': .*integer"):
        from_dict({"model": {"superpatch": ["a", 64, 64]}})


def test_settings__of_a_fusion_on_voxels_are_those_that_were_tried() -> None:
    """Else it would have the width of the preset's fusion on cells, or none."""
    for preset in ("demo", "paper"):
        config, _ = starting_point([preset, "--model.fusion.network", "voxels"])
        assert config.model.fusion == ON_VOXELS  # type: ignore[union-attr]
    words = ["demo", "--model.fusion.network=voxels", "--model.fusion.width", "16"]
    config, rest = starting_point(words)
    fusion = parse(Pretrain, "pretrain", rest, Pretrain(config=config)).config.model.fusion  # type: ignore[union-attr]
    assert fusion == replace(ON_VOXELS, width=16)
    assert starting_point(["demo"])[0] == starting_point(["demo", "--model.fusion.network", "cells"])[0]
