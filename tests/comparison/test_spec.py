"""Models as words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maesil import presets
from maesil.comparison.model_sets import MODEL_SETS, ours_width
from maesil.comparison.spec import Spec, parse_models
from maesil.errors import ConfigError
from maesil.models import AEConfig, MAEConfig, VQVAEConfig, make_model


def test_parse_models__reads_words_commas_and_brackets() -> None:
    specs = parse_models(["maesil, ae", "vqvae:channels=[32, 64]:latent_channels=6,mean"])
    assert [spec.model for spec in specs] == ["maesil", "ae", "vqvae", "mean"]
    assert dict(specs[2].settings) == {"model.channels": [32, 64], "model.latent_channels": 6}
    assert [spec.trained for spec in specs] == [True, True, True, False]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-6", 1e-6), ("0.5", 0.5), ("true", True), ("[1, 8, 8]", [1, 8, 8]), ("own", "own")],
)
def test_parse_models__reads_values(text: str, value: object) -> None:
    assert dict(parse_models([f"vae:model.x={text}"])[0].settings) == {"model.x": value}


def test_parse_models__titles_are_short() -> None:
    words = ["maesil", "slice_mae:masks=shared:patch=[1, 8, 8]", "maesil:masking.name=uniform:train.peak_lr=1e-3"]
    titles = [spec.title for spec in parse_models(words)]
    assert titles == ["maesil", "slice_mae, masks shared, patch 1x8x8", "maesil, masking uniform, train peak lr 1e-3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no model is given"),
        (["aee"], "did you mean 'ae'"),
        (["ae", "ae"], "two models are called 'ae'"),
        (["ae:corrupt=true", "ae:model.corrupt=true"], "two models are called 'ae, corrupt true'"),
        (["ae:latent"], "is not a setting"),
        (["ae:optics.x=1"], "unknown section"),
        (["mean:x=1"], "learns nothing"),
    ],
)
def test_parse_models__refuses(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_models(words)
    assert message in str(caught.value)


def test_configure__changes_what_is_named_and_nothing_else() -> None:
    preset = presets.demo()
    config = parse_models(["ae:latent_channels=6:train.peak_lr=1e-4"])[0].configure(preset)
    assert isinstance(config.model, AEConfig)
    assert config.model.latent_channels == 6
    assert config.train.peak_lr == 1e-4
    assert (config.data, config.masking, config.train.batch) == (preset.data, preset.masking, preset.train.batch)


def test_configure__another_strategy_takes_its_own_settings() -> None:
    spec = Spec("u", "maesil", {"masking.name": "uniform", "masking.mask_ratio": 0.6})
    assert spec.configure(presets.demo()).masking.ratio == pytest.approx(0.6)


def test_configure__weights_to_start_from_are_those_of_our_network() -> None:
    preset = replace(presets.demo(), init="demo-2mm")
    inits = [spec.configure(preset).init for spec in parse_models(["maesil", "unet", "ae"])]
    assert inits == ["demo-2mm", "none", "none"]


def test_configure__names_the_model_whose_setting_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'model\.latent_chanels'") as caught:
        parse_models(["ae:latent_chanels=6"])[0].configure(presets.demo())
    assert "ae:latent_chanels=6" in str(caught.value)
    assert "latent_channels" in str(caught.value)


def test_configure__reaches_settings_of_a_part() -> None:
    (spec,) = parse_models(["maesil:model.fusion.width=0"])
    preset = presets.demo()
    model = spec.configure(preset).model
    assert isinstance(model, MAEConfig)
    assert isinstance(preset.model, MAEConfig)
    assert model == replace(preset.model, fusion=replace(preset.model.fusion, width=0))
    assert spec.title == "maesil, fusion width 0"


@pytest.mark.parametrize("setting", ["model.fusion.widht=0", "model.nothing.width=0", "model.patch.width=0"])
def test_configure__names_the_part_whose_setting_is_wrong(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.split(".")[1]):
        parse_models([f"maesil:{setting}"])[0].configure(presets.demo())


@pytest.mark.parametrize("name", MODEL_SETS)
@pytest.mark.parametrize("preset", ["demo", "paper"])
def test_lineups__every_model_fits_every_size(name: str, preset: str) -> None:
    beside = presets.PRESETS[preset]()
    model_set = MODEL_SETS[name](beside)
    assert model_set.ours == model_set.specs[0].label
    for spec in model_set.specs:
        if spec.trained:
            spec.configure(beside)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_ablation_masking__varies_the_papers_network(preset: str) -> None:
    beside = presets.PRESETS[preset]()
    for spec in MODEL_SETS["ablation-masking"](beside).specs:
        if spec.trained:
            model = spec.configure(beside).model
            assert isinstance(model, MAEConfig)
            assert (model.head, model.visible_head) == ("patch", False)
            assert model.fusion.width == 0


def test_bottlenecks__three_sizes_each_one_as_wide_as_our_encoder_hands_on() -> None:
    preset = presets.demo()
    assert isinstance(preset.model, MAEConfig)
    handed_on = preset.masking.visible_count(preset.model.grid) * preset.model.encoder_width
    for kind in ("ae", "vae", "vqvae"):
        configs = [spec.configure(preset) for spec in MODEL_SETS["bottlenecks"](preset).specs if spec.model == kind]
        models = [make_model(config.model, config.masking) for config in configs]
        sizes = {
            model.latent.bits if isinstance(model.config, VQVAEConfig) else model.latent.elements for model in models
        }
        assert len(sizes) >= 3
        assert handed_on in {model.latent.elements for model in models}


def test_ablation__strategies_hide_equally_many_tokens() -> None:
    preset = presets.demo()
    assert isinstance(preset.model, MAEConfig)
    specs = {spec.label: spec for spec in MODEL_SETS["ablation-masking"](preset).specs}
    equal = ["dual 75 %", "uniform 75 %", "plane 75 %", "axis 75 %"]
    counts = {specs[label].configure(preset).masking.visible_count(preset.model.grid) for label in equal}
    assert counts == {128}
    assert specs["dual 87.5 %"].configure(preset).masking.visible_count(preset.model.grid) == 64
    assert ours_width(preset) == 48


def test_configure__takes_the_fast_recipes_options() -> None:
    specs = parse_models(["maesil", "maesil:decoder=cross:rebuilt_share=0.25:head=patch"])
    plain, fast = (spec.configure(presets.demo()).model for spec in specs)
    assert isinstance(plain, MAEConfig)
    assert isinstance(fast, MAEConfig)
    assert (plain.decoder, plain.rebuilt_share) == ("self", 1.0)
    assert (fast.decoder, fast.rebuilt_share) == ("cross", 0.25)
    assert specs[1].title == "maesil, decoder cross, rebuilt share 0.25, head patch"
