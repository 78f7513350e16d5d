from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import maesil
from backbones import CONFIG, random_volume, small_backbone, small_card, with_patch
from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig
from maesil.ct.doubts import ValuesWarning
from maesil.encoder.card import Transfer
from maesil.errors import CheckpointError, ConfigError, DownloadError
from maesil.export.targets import export
from maesil.presets.baselines import baseline
from maesil.runs.from_weights import initial_of


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(small_backbone(), small_card(), "safetensors", tmp_path_factory.mktemp("export") / "out")


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def edited(folder: Path, **changes: object) -> Path:
    path = folder / "transfer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@torch.no_grad()
def test_load__a_run_through_the_command(
    tiny_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, exported and loaded back by the public commands: the same features from the run and from the export."""
    run = tmp_path / "run"
    pipeline.pretrain(tiny_config, run)
    out = tmp_path / "out"
    assert main(["export", str(run), "--to", "safetensors", "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    from_run, from_export = maesil.load(run), maesil.load(str(out))
    volume = torch.rand(1, 1, 32, 32, 32)
    torch.testing.assert_close(from_run(volume), from_export(volume))
    card = Transfer.read(out)
    assert (card.step, card.preset, sum(card.datasets.values())) == (12, "tiny", 2)
    assert card.voxels["spacing_mm"] == 2.0
    assert not from_run.training


def test_load__is_one_line_and_light() -> None:
    assert callable(maesil.load)
    with pytest.raises(AttributeError, match="nothing"):
        _ = maesil.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_load__a_device_that_is_not_here(device: str, exported: Path) -> None:
    with pytest.raises(ConfigError, match=f"the device '{device}' cannot be used"):
        maesil.load(exported, device=device)


def test_load__hounsfield_units_are_told_once(exported: Path) -> None:
    encoder = maesil.load(str(exported))
    hu = torch.full((1, 1, 32, 32, 32), -1000.0)
    with pytest.warns(ValuesWarning, match=r"-1000 to -1000, .* encoder\.from_hu\(hu\)"):
        encoder(hu)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.tokens(hu)
        in_window = maesil.load(str(exported))
        in_window.features(in_window.from_hu(hu) - 0.5, [1])  # augmentations leave the window a little


def test_load__truncated_weights(copied: Path) -> None:
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="damaged weights"):
        maesil.load(copied)


def test_load__another_format(copied: Path) -> None:
    with pytest.raises(CheckpointError, match="format 99; this maesil reads 1 and 2"):
        maesil.load(edited(copied, format=99))


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "cannot be read"), ("[]", "not written by maesil"), ('{"format": 2}', "no sound model"), ("{", "cannot be")],
)
def test_load__a_foreign_description(text: str, says: str, copied: Path) -> None:
    (copied / "transfer.json").write_text(text)
    for read in (maesil.load, Transfer.read, lambda folder: initial_of(str(folder))):
        with pytest.raises(CheckpointError, match=says):
            read(copied)


def test_load__wrong_patch_size(copied: Path) -> None:
    model = {**json.loads((copied / "transfer.json").read_text())["model"], "patch": [16, 8, 8]}
    with pytest.raises(CheckpointError, match=r"encoder.embed.weight is 48x512, the network wants 48x1024"):
        maesil.load(edited(copied, model=model))


def test_load__unknown_or_unfitting_settings(copied: Path) -> None:
    with pytest.raises(CheckpointError, match="was not written by maesil"):
        maesil.load(edited(copied, surprise=1))
    model = {**small_card().model, "encoder_wdth": 48}
    with pytest.raises(CheckpointError, match=r"(?s)unknown setting 'encoder_wdth'.*did you mean 'encoder_width'"):
        maesil.load(edited(export(small_backbone(), small_card(), "safetensors", copied / "x"), model=model))


def test_load__an_export_for_another_tool(tmp_path: Path) -> None:
    folder = export(small_backbone(), small_card(), "monai", tmp_path / "monai")
    with pytest.raises(CheckpointError, match="exported for monai"):
        maesil.load(folder)


@pytest.mark.parametrize("source", ["nowhere", "./no/where", "/no/where"])
def test_load__no_such_folder(source: str) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        maesil.load(source)


def test_load__a_wrong_name_in_a_folder_that_is_here_is_no_model_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        maesil.load("runs/bse")


@pytest.mark.parametrize("source", ["hf://some/encoder", "some/encoder"])
def test_load__from_the_hub(source: str, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("maesil.encoder.load.snapshot_download", lambda name, **_: asked.append(name) or str(exported))
    assert maesil.load(source).depth == CONFIG.encoder_depth
    assert asked == ["some/encoder"]


def test_load__hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **_: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("maesil.encoder.load.snapshot_download", refuse)
    with pytest.raises(DownloadError, match="no route"):
        maesil.load("hf://some/encoder")


def test_export__a_baseline_has_no_encoder_to_hand_on(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.pretrain(baseline("ae", tiny_config), run)
    with pytest.raises(CheckpointError, match="trained the baseline 'ae'"):
        pipeline.export(run, "safetensors", tmp_path / "out")


def test_export__command_without_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "run", "--out", "x"]) == 2
    assert main(["export", "no-run", "--to", "monai", "--out", "x"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@torch.no_grad()
def test_from_export_to_export(exported: Path, tmp_path: Path) -> None:
    """An export is a source, too: MONAI's weights from the plain folder."""
    pipeline.export(exported, "monai", tmp_path / "monai")
    assert "patch_embedding.position_embeddings" in load_file(tmp_path / "monai" / "vit.safetensors")


@torch.no_grad()
def test_load__a_patch_of_another_shape(tmp_path: Path) -> None:
    config = with_patch((4, 8, 8), (16, 16, 16))
    backbone = small_backbone(config)
    folder = export(backbone, small_card(config), "safetensors", tmp_path / "out")
    volume = random_volume(backbone)
    torch.testing.assert_close(maesil.load(folder)(volume), backbone(volume))
