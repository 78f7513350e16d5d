"""Every export target: the folder says what it is, loads where it is for, and gives equal features.

A target that is added to `TARGETS` needs a row in `LOADED_BACK`: how its folder gives features, in that tool.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from backbones import CONFIG, EVA, random_volume, small_backbone, small_card, with_patch
from exported import LOADED_BACK, as_map
from maesil.encoder.card import Transfer
from maesil.errors import ConfigError
from maesil.export import TARGETS
from maesil.export.targets import export
from maesil.models import MAEConfig

TOLERANCE = {"onnx": 1e-4}
every_target = pytest.mark.parametrize("target", list(TARGETS))
pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def test_every_target_is_loaded_back() -> None:
    assert set(LOADED_BACK) == set(TARGETS)


FOR_PLAIN_BLOCKS = {"monai"}
"""Targets whose networks have only the blocks of a plain ViT."""


@pytest.mark.parametrize("config", [CONFIG, EVA], ids=["vit", "eva"])
@every_target
@torch.no_grad()
def test_features__equal_where_it_is_loaded(target: str, config: MAEConfig, tmp_path: Path) -> None:
    backbone = small_backbone(config)
    volume = random_volume(backbone)
    if config is EVA and target in FOR_PLAIN_BLOCKS:
        with pytest.raises(ConfigError, match="no blocks of kind 'eva'"):
            export(backbone, small_card(config), target, tmp_path / target)
        assert not list(tmp_path.iterdir())
        return
    folder = export(backbone, small_card(config), target, tmp_path / target)
    features = LOADED_BACK[target](folder, volume)
    tolerance = TOLERANCE.get(target, 1e-5)
    torch.testing.assert_close(features, backbone(volume), atol=tolerance, rtol=tolerance)


@every_target
def test_folder__has_card_and_transfer(target: str, tmp_path: Path) -> None:
    folder = export(small_backbone(), small_card(), target, tmp_path / target)
    card = Transfer.read(folder)
    assert (card.target, card.config(), card.datasets, card.step) == (target, CONFIG, {"thorax": 3}, 7)
    text = (folder / "README.md").read_text()
    assert "```python" in text
    assert "2 mm isotropic" in text
    for told in (text, (folder / "transfer.json").read_text()):
        assert str(tmp_path) not in told
    assert not list(tmp_path.glob(".*")), "a draft was left behind"


@every_target
def test_folder__is_replaced_only_if_nothing_else_is_in_it(target: str, tmp_path: Path) -> None:
    folder = export(small_backbone(), small_card(), target, tmp_path / target)
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "network.cpython-311.pyc").touch()
    export(small_backbone(), small_card(), target, folder)
    (folder / "my notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"'my notes.txt' would be lost: this command does not write it"):
        export(small_backbone(), small_card(), target, folder)
    (folder / "other.txt").touch()
    with pytest.raises(ConfigError, match=r"'my notes.txt' and 1 more would be lost: this command does not write them"):
        export(small_backbone(), small_card(), target, folder)
    assert (folder / "my notes.txt").read_text() == "mine"
    assert Transfer.read(folder).target == target
    assert not list(tmp_path.glob(".*")), "a draft was left behind"


@pytest.mark.parametrize("target", ["safetensors", "monai"])
def test_export__refuses_a_folder_of_other_weights(target: str, tmp_path: Path) -> None:
    """Another training of equal settings, and another step. A writer of MONAI's kind has notes of its own."""
    folder = export(small_backbone(), small_card(), target, tmp_path / target)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = small_backbone()
    other.encoder.embed.bias.data += 1
    with pytest.raises(ConfigError, match=f"exported for {target} from preset small, step 7: they are of another"):
        export(other, small_card(), target, folder)
    with pytest.raises(ConfigError, match="step 7: step is 7 there, 8 here") as raised:
        export(other, replace(small_card(), step=8), target, folder)
    assert raised.value.where == str(folder)
    assert "--out DIR" in str(raised.value.fix)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    export(small_backbone(), small_card(), target, folder)


def test_export__compares_the_description_of_an_earlier_version_without_a_digest(tmp_path: Path) -> None:
    folder = export(small_backbone(), small_card(), "safetensors", tmp_path / "out")
    replace(Transfer.read(folder), notes={}).write(folder)
    with pytest.raises(ConfigError, match=r"datasets\.thorax is 3 there, 4 here"):
        export(small_backbone(), replace(small_card(), datasets={"thorax": 4}), "safetensors", folder)
    export(small_backbone(), small_card(), "safetensors", folder)
    assert Transfer.read(folder).notes
    (folder / "transfer.json").write_text("{}")
    with pytest.raises(ConfigError, match="nothing tells which weights this folder has"):
        export(small_backbone(), small_card(), "safetensors", folder)


@pytest.mark.parametrize("earlier", [False, True])
def test_export__into_the_working_folder_and_through_a_link(
    earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "link").symlink_to("place")
    if earlier:
        export(small_backbone(), small_card(), "safetensors", place)
    monkeypatch.chdir(place)
    for out in (Path(), tmp_path / "link"):
        folder = export(small_backbone(), small_card(), "safetensors", out)
        assert folder.samefile(place)
        assert Transfer.read(Path()).target == "safetensors"
    assert (tmp_path / "link").is_symlink()
    assert not list(tmp_path.glob(".*")), "a draft was left behind"


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "nnunet"])
@torch.no_grad()
def test_card__its_lines_run(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines a card tells people to write are executed in the exported folder."""
    folder = export(small_backbone(), small_card(), target, tmp_path / target)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    exec(compile(code, f"{target} card", "exec"), {})


@every_target
def test_export__leaves_folders_of_other_things_alone(target: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="neither empty nor an export"):
        export(small_backbone(), small_card(), target, precious)
    assert (precious / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(("depth", "taps"), [(4, {3: 2, 6: 3, 9: 4}), (12, {3: 4, 6: 7, 9: 10}), (1, {3: 1, 9: 1})])
@torch.no_grad()
def test_unetr__equal_features_on_repeated_voxels(depth: int, taps: dict[int, int], tmp_path: Path) -> None:
    """Patches of 8 in a network for patches of 16: blocks that are added change nothing."""
    from monai.networks.nets import UNETR

    config = with_patch((8, 8, 8), (16, 16, 24), depth)
    backbone = small_backbone(config)
    folder = export(backbone, small_card(config), "monai", tmp_path / "monai")
    sizes = Transfer.read(folder).notes["unetr"]
    unetr = UNETR(out_channels=2, **sizes).eval().double()
    unetr.vit.load_state_dict(load_file(folder / "unetr_vit.safetensors"), strict=True)
    backbone, volume = backbone.double(), random_volume(backbone).double()
    finer = volume
    for axis in (2, 3, 4):
        finer = finer.repeat_interleave(2, dim=axis)
    last, hidden = unetr.vit(finer)
    torch.testing.assert_close(as_map(last, config), backbone(volume), atol=1e-5, rtol=1e-5)
    for tap, ours in taps.items():  # hidden states come before the last norm, as features below the last depth do
        if ours < depth:
            wanted = backbone.features(volume, (ours,))[0]
            torch.testing.assert_close(as_map(hidden[tap], config), wanted, atol=1e-5, rtol=1e-5)
        else:
            torch.testing.assert_close(unetr.vit.norm(hidden[tap]), last)
    assert unetr(finer).shape == (2, 2, *finer.shape[2:])


@pytest.mark.parametrize(
    ("config", "reason"),
    [(with_patch((8, 8, 8), (16, 16, 16), 13), "12 blocks"), (with_patch((4, 8, 8), (8, 16, 16)), "patches of 16")],
)
def test_unetr__says_why_it_does_not_fit(config: MAEConfig, reason: str, tmp_path: Path) -> None:
    folder = export(small_backbone(config), small_card(config), "monai", tmp_path / "monai")
    assert reason in Transfer.read(folder).notes["unetr_misfit"]
    assert not (folder / "unetr_vit.safetensors").exists()
