"""The export for nnU-Net: its files alone, and in the real nnU-Net."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import SimpleITK

import maesil
from backbones import EVA, small_backbone, small_card, with_patch
from maesil.cli import main
from maesil.encoder.card import Transfer
from maesil.export.nnunet import FILES, lines_for
from maesil.export.nnunet_folder.maesil_network import own_trainer
from maesil.export.nnunet_folder.maesil_plans import adapted, turned
from maesil.export.targets import export
from maesil.presets import primus

CUBE = with_patch((8, 8, 8), (32, 32, 32), depth=2)
ENCODER = ("encoder_block", "encoder_width", "encoder_depth", "encoder_heads", "mlp_ratio", "patch")
PRIMUS_S = replace(CUBE, encoder_block="eva", encoder_width=396, encoder_depth=12, encoder_heads=6, mlp_ratio=8 / 3)
PACKAGES = Path(sys.prefix) / "interop-nnunet"
PLANS = {
    "plans_name": "nnUNetPlans",
    "transpose_forward": [1, 0, 2],
    "transpose_backward": [1, 0, 2],
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 30.0, "std": 60.0, "percentile_00_5": -90.0, "percentile_99_5": 200.0, "max": 900.0}
    },
    "configurations": {
        "2d": {},
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "spacing": [3.0, 1.5, 1.5],
            "median_image_size_in_voxels": [40.0, 200.0, 200.0],
            "patch_size": [28, 256, 224],
            "batch_size": 2,
            "normalization_schemes": ["ZScoreNormalization"],
        },
    },
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = replace(small_card(CUBE), voxels={"policy": "spacing", "spacing_mm": 4.0})
    return export(small_backbone(CUBE), card, "nnunet", tmp_path_factory.mktemp("nnunet") / "a folder")


def test_export__prints_the_lines_to_run(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = export(small_backbone(CUBE), small_card(CUBE), "safetensors", tmp_path / "plain")
    assert main(["export", str(plain), "--to", "nnunet", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert f"export nnUNet_extTrainer={tmp_path / 'out'}" in shown
    assert "-tr MaesilTrainer\n" in shown
    assert "-tr MaesilScratchTrainer" in shown
    assert all((tmp_path / "out" / name).is_file() for name in FILES)
    assert "'" in lines_for(exported)  # a path with a space


def test_adapted__has_the_encoder_s_voxels_and_window(exported: Path) -> None:
    card = json.loads((exported / "transfer.json").read_text())
    plans = adapted(PLANS, card)
    chosen = plans["configurations"]["3d_fullres"]
    assert list(plans["configurations"]) == ["3d_fullres"]
    assert (chosen["spacing"], chosen["patch_size"], chosen["batch_size"]) == ([4.0] * 3, [32] * 3, 2)
    assert chosen["median_image_size_in_voxels"] == [30.0, 75.0, 75.0]
    assert plans["transpose_forward"] == plans["transpose_backward"] == [0, 1, 2]
    window = plans["foreground_intensity_properties_per_channel"]["0"]
    for hu, unit in ((-2000.0, 0.0), (-1000.0, 0.0), (0.0, 0.5), (1000.0, 1.0), (3000.0, 1.0)):  # as CTNormalization
        clipped = min(max(hu, window["percentile_00_5"]), window["percentile_99_5"])
        assert (clipped - window["mean"]) / window["std"] == unit
    assert window["max"] == 900.0
    assert PLANS["plans_name"] == "nnUNetPlans"


@pytest.mark.parametrize(
    ("voxels", "told"),
    [
        ({"policy": "cube", "cube": 128}, "trained on whole scans resampled to 128x128x128 voxels"),
        ({"policy": "native"}, "trained on the voxels that scans have"),
        ({"policy": "spacing", "spacing_mm": 4.0}, None),
    ],
)
def test_doubts__name_voxels_that_plans_cannot_ask_for(
    voxels: dict[str, object], told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer's own list, on stubs of nnU-Net."""
    folder = export(small_backbone(CUBE), replace(small_card(CUBE), voxels=voxels), "nnunet", tmp_path / "encoder")
    trainers = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
    for name in ("nnunetv2", "nnunetv2.training", "nnunetv2.training.nnUNetTrainer", trainers.rpartition(".")[0]):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    stub: Any = ModuleType(trainers)
    stub.AbstractPrimus = object
    monkeypatch.setitem(sys.modules, trainers, stub)
    for name in ("maesil_network", "maesil_plans"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.8.0")
    path = folder / "maesil_trainer.py"
    code: dict[str, Any] = {"__file__": str(path), "__name__": "maesil_trainer"}
    exec(compile(path.read_text(), path, "exec"), code)
    card = json.loads((folder / "transfer.json").read_text())
    found = code["doubts"](adapted(PLANS, card), "3d_fullres")
    assert [told in doubt for doubt in found] == [True] if told else found == []
    for name in ("maesil_network", "maesil_plans"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_turned__names_images_with_other_axes(tmp_path: Path) -> None:
    image = SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16)
    SimpleITK.WriteImage(image, str(tmp_path / "lps.nii.gz"))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(tmp_path / "ras.nii.gz"))
    assert turned(sorted(tmp_path.iterdir())) == ["ras.nii.gz"]


@pytest.mark.parametrize("installed", ["2.5.2", "3.0"])
def test_trainer__of_another_version(exported: Path, installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed)
    path = exported / "maesil_trainer.py"
    code = compile(path.read_text(), path, "exec")
    with pytest.raises(RuntimeError, match=rf"is for nnU-Net 2\.8\.x, and {installed} is installed"):
        exec(code, {"__file__": str(path), "__name__": "maesil_trainer"})


def test_trainer__doubts_plans_of_another_spacing_or_scheme(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is executed without nnU-Net: a class stands for the trainer that it extends."""
    primus = ModuleType("nnunetv2.training.nnUNetTrainer.primus.primus_trainers")
    primus.AbstractPrimus = type("AbstractPrimus", (), {})  # type: ignore[attr-defined]
    parts = primus.__name__.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
    monkeypatch.setitem(sys.modules, primus.__name__, primus)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.8.1")
    monkeypatch.syspath_prepend(str(exported))
    space: dict[str, Any] = {"__file__": str(exported / "maesil_trainer.py"), "__name__": "maesil_trainer"}
    exec((exported / "maesil_trainer.py").read_text(), space)
    card = json.loads((exported / "transfer.json").read_text())
    spacing, low, high = card["voxels"]["spacing_mm"], card["low_hu"], card["high_hu"]

    def plans(step: float, scheme: str, mean: float, std: float) -> dict[str, Any]:
        chosen = {"spacing": [step] * 3, "normalization_schemes": [scheme]}
        properties = {"0": {"mean": mean, "std": std}}
        return {"configurations": {"x": chosen}, "foreground_intensity_properties_per_channel": properties}

    assert space["doubts"](plans(spacing, "CTNormalization", low, high - low), "x") == []
    (other,) = space["doubts"](plans(2 * spacing, "CTNormalization", low, high - low), "x")
    assert f"{[2 * spacing] * 3} mm, the encoder was trained at {spacing} mm" in other
    (scheme,) = space["doubts"](plans(spacing, "ZScoreNormalization", low, high - low), "x")
    assert (
        f"normalise by ZScoreNormalization, the encoder was trained with HU {low:g} to {high:g} mapped to 0 to 1"
        in scheme
    )


@pytest.mark.parametrize(
    ("changes", "trainer"),
    [
        ({}, "nnUNet_Primus_S_Trainer"),
        ({"encoder_width": 792, "encoder_heads": 12}, "nnUNet_Primus_B_Trainer"),
        ({"encoder_depth": 11}, None),
        ({"mlp_ratio": 4.0}, None),
        ({"encoder_block": "vit"}, None),
        ({"patch": (4, 8, 8)}, None),
    ],
)
def test_own_trainer__only_of_the_same_network(changes: dict[str, Any], trainer: str | None) -> None:
    assert own_trainer(asdict(replace(PRIMUS_S, **changes))) == trainer


def test_export__of_primus_names_nnunets_own_trainer(tmp_path: Path) -> None:
    assert primus().model == replace(primus().model, **{name: getattr(PRIMUS_S, name) for name in ENCODER})
    folder = export(small_backbone(PRIMUS_S), small_card(PRIMUS_S), "nnunet", tmp_path / "own")
    lines = lines_for(folder)
    assert "-tr nnUNet_Primus_S_Trainer \\\n" in lines
    assert lines.endswith("-pretrained_weights $nnUNet_preprocessed/DATASET/maesil_pretrained.pth\n")
    assert "nnUNet_Primus_S_Trainer" in Transfer.read(folder).notes["fits"]
    assert "nnUNet_Primus" not in lines_for(export(small_backbone(EVA), small_card(EVA), "nnunet", tmp_path / "eva"))


@pytest.mark.slow
@pytest.mark.interop
def test_nnunet__plans_preprocesses_trains_and_predicts(exported: Path, tmp_path: Path) -> None:
    """The real nnU-Net 2.8, on four patients of OpenKBP; `make interop-nnunet` installs it."""
    source = Path(os.environ.get("MAESIL_TEST_DATA", Path(__file__).parents[2] / ".." / "shared")) / "ct" / "openkbp"
    if not (PACKAGES / "nnunetv2").is_dir():
        pytest.skip("nnunetv2 is not installed in the environment's folder interop-nnunet: make interop-nnunet")
    if not source.is_dir():
        pytest.skip(f"no test data at {source}: set MAESIL_TEST_DATA")
    script = Path(__file__).parent / "nnunet_openkbp.py"
    code = Path(maesil.__file__).parents[1]
    paths = os.pathsep.join(map(str, (PACKAGES, PACKAGES.parent / "interop", code)))
    card = replace(small_card(PRIMUS_S), voxels={"policy": "spacing", "spacing_mm": 4.0})
    own = export(small_backbone(PRIMUS_S), card, "nnunet", tmp_path / "own")
    call = [sys.executable, script, tmp_path, source, exported, own]
    done = subprocess.run(call, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "maesil: the encoder is loaded" in done.stdout
    assert "WARNING: the plans" not in done.stdout
    results = tmp_path / "results" / "Dataset007_organs"
    for trainer in ("MaesilTrainer", "MaesilScratchTrainer", "nnUNet_Primus_S_Trainer"):
        assert (results / f"{trainer}__nnUNetPlansMaesil__3d_fullres" / "fold_all" / "checkpoint_final.pth").is_file()
    image = SimpleITK.ReadImage(str(tmp_path / "raw" / "Dataset007_organs" / "imagesTs" / "case0_0000.nii.gz"))
    found = SimpleITK.ReadImage(str(tmp_path / "out" / "case0.nii.gz"))
    assert found.GetSize() == image.GetSize()
    assert set(SimpleITK.GetArrayFromImage(found).ravel().tolist()) <= {0, 1, 2}
