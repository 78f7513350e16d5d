"""A part that is written and registered as CONTRIBUTING's table says is found wherever people meet such parts.

Every test adds a small part to its catalogue, and to nothing else. The readers' is in `test_readers.py`.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, final

import pytest
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

import maesil
from layout_trees import nifti
from maesil import pipeline, presets
from maesil.catalog import Catalog
from maesil.cli import COMMANDS, main
from maesil.commands.finetune import TASKS
from maesil.comparison import experiment
from maesil.comparison.model_sets import MODEL_SETS, ModelSet
from maesil.comparison.spec import parse_models
from maesil.config import RunConfig, dump_yaml, from_dict, load_yaml, to_dict
from maesil.datasets.layout import Layout, case_scan
from maesil.datasets.layouts import LAYOUTS
from maesil.datasets.naming import Naming
from maesil.datasets.scan import FoundScans
from maesil.encoder.card import WEIGHTS, Transfer, save_weights
from maesil.encoder.start import starting_point
from maesil.errors import UnknownNameError
from maesil.evaluation.measures import METRICS, Metric, plain_mean
from maesil.evaluation.protocol import PROTOCOLS, Protocol
from maesil.evaluation.scores import read_scores
from maesil.evaluation.volumes import Volumes
from maesil.export import TARGETS
from maesil.grid import PatchGrid
from maesil.masking import MASKINGS, Masking
from maesil.masking.base import check_ratio, choose, uniform_scores
from maesil.models import CEILINGS, MODELS, UNTRAINED
from maesil.models.ae import AE, AEConfig
from maesil.models.autoencoder import AutoencoderConfig
from maesil.models.backbone import Backbone
from maesil.models.cost import mae_flops
from maesil.models.mae import DECODERS
from maesil.models.mean import MeanFill
from maesil.models.transformer import Attended, PatchDecoder
from maesil.presets import PRESETS
from maesil.presets.baselines import SIZES, autoencoder_beside
from maesil.report import masks
from maesil.runs.load import load_run
from maesil.store.scanstore import ScanStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
QUICK = ("--protocol.lpips", "None", "--protocol.mask-draws", "1")
Helps = Callable[..., str]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Catalog[Any], Any], None]:
    """Adds a part called "toy" to a catalogue, before the others."""

    def add(catalog: Catalog[Any], part: Any) -> None:
        monkeypatch.setattr(catalog, "_parts", {"toy": part, **catalog._parts})

    return add


Register = Callable[[Catalog[Any], Any], None]


@pytest.fixture
def helps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Helps:
    """The help of a command as a new process shows it: texts are made when a command's module is imported."""

    def show(*words: str) -> str:
        for name in [f"maesil.commands.{word.replace('-', '_')}" for word in words] + ["maesil.cli"] * (not words):
            monkeypatch.delitem(sys.modules, name, raising=False)
            monkeypatch.delattr(name, raising=False)
        run = import_module("maesil.cli").main
        capsys.readouterr()
        assert run([*words, "--help"]) == 0
        return " ".join(capsys.readouterr().out.split())

    return show


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Helps:
    """What a call that is refused says."""

    def say(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        return " ".join(capsys.readouterr().err.split())

    return say


@pytest.fixture
def tiny(tiny_config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A preset called "tiny", whose trainings run in this process: another one lacks the new part."""
    quick = replace(tiny_config, train=replace(tiny_config.train, steps=2))
    monkeypatch.setattr(PRESETS, "_parts", {**PRESETS._parts, "tiny": lambda: quick})
    monkeypatch.setattr(
        experiment, "pretrain_apart", lambda config, run: pipeline.pretrain(load_yaml(config), run) and None
    )
    return quick


def module(name: str, monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """A module of the package, as if it had a file."""
    made = ModuleType(name)
    vars(made).update(functions)
    monkeypatch.setitem(sys.modules, name, made)


def pretrained(tiny: RunConfig, run: Path, *words: str) -> Path:
    assert main(["pretrain", "tiny", "--data.store", str(tiny.data.store), "--run", str(run), *words]) == 0
    return run


def compared(tiny: RunConfig, out: Path, *words: str, beside: str = "tiny") -> Path:
    quick = ("--beside", beside, "--budget", "steps=2", "--pictures", "0", *QUICK)
    assert main(["compare", str(tiny.data.store), "--out", str(out), *quick, *words]) == 0
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@final
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ToyMasking(Masking):
    """Hides tokens at random.

    Args:
        mask_ratio: Share of the tokens to hide.
        rounds: A whole number.
        how: A word.
    """

    mask_ratio: float = 0.5
    rounds: int = 3
    how: str = "plainly"
    name: Literal["toy"] = "toy"

    def __post_init__(self) -> None:
        check_ratio("mask_ratio", self.mask_ratio)

    @property
    def ratio(self) -> float:
        """Share of masked tokens."""
        return self.mask_ratio

    def masked_count(self, grid: PatchGrid) -> int:
        """Number of masked tokens."""
        return round(self.mask_ratio * grid.tokens)

    def _draw(self, batch: int, grid: PatchGrid, generator: torch.Generator) -> torch.Tensor:
        return choose(uniform_scores(batch, grid.tokens, generator=generator), self.masked_count(grid))


@final
class ToyDecoder(PatchDecoder):
    """One block, whatever the depth; rebuilt tokens see nothing but their own positions."""

    @staticmethod
    def attended(depth: int, grid: PatchGrid, visible: int, rebuilt: int) -> list[Attended]:
        return [Attended(rebuilt, rebuilt, rebuilt)]

    def forward(self, latent: Any, visible: Any, wanted: Any = None) -> Any:
        positions = self.positions()
        chosen = positions.expand(len(latent), -1, -1) if wanted is None else positions[wanted]
        return self.blocks[0](chosen + self.mask_token + self.embed(latent).mean(dim=1, keepdim=True))


def test_decoder(
    register: Register, refused: Helps, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(DECODERS, ToyDecoder)
    assert "did you mean 'toy'?" in refused("pretrain", "tiny", "--model.decoder", "tov")
    file = written(tmp_path / "a.yaml", "model: {decoder: x}")
    assert "known: axial, cross, self, toy, windows" in refused("pretrain", "--config", file, "--run", "x")
    run = pretrained(tiny, tmp_path / "run", "--model.decoder", "toy")
    loaded = load_run(run)
    assert isinstance(loaded.model.decoder, ToyDecoder)
    assert load_yaml(run / "config.yaml").model.decoder == "toy"
    assert "kind 'toy'" in (run / "checkpoints" / "last" / "card.md").read_text()
    (spec,) = parse_models(["maesil:decoder=toy"])
    config = spec.configure(tiny).model
    assert mae_flops(config, 8) != mae_flops(replace(config, decoder="self"), 8)


def test_masking(
    register: Register, helps: Helps, refused: Helps, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(MASKINGS, ToyMasking)
    assert "of --masking.name: toy, " in helps("pretrain")
    assert "of --protocol.masks: toy, " in helps("evaluate")
    assert "known: axis, dual, plane, shared_plane, toy, uniform" in refused("pretrain", "tiny", "--masking.name", "x")
    with pytest.raises(UnknownNameError, match="toy"):
        Protocol(masks="tox")

    run = pretrained(tiny, tmp_path / "run", "--masking.name", "toy", "--masking.mask-ratio", "0.25")
    assert load_run(run).config.masking == load_yaml(run / "config.yaml").masking == ToyMasking(mask_ratio=0.25)
    assert from_dict({"masking": {"name": "toy", "rounds": 5}}).masking == ToyMasking(rounds=5)
    said = refused("pretrain", "--config", written(tmp_path / "a.yaml", "masking: {name: toy, round: 5}"), "--run", "x")
    assert "unknown setting 'masking.round'" in said
    assert "did you mean 'rounds'?" in said
    assert "toy masking" in (run / "checkpoints" / "last" / "card.md").read_text()

    assert main(["evaluate", str(run), *QUICK, "--protocol.masks", "toy"]) == 0
    assert "toy masks, one mask draw" in read_scores(run / "evaluation" / "test-toy" / "scores.jsonl")[0].described
    assert "toy masking of 50.0%" in (run / "evaluation" / "test-toy" / "table.md").read_text()
    assert "split 'test' was not evaluated" in refused("report", str(run))
    assert main(["evaluate", str(run), *QUICK]) == 0
    assert main(["report", str(run)]) == 0
    assert "toy: how plainly, mask ratio 25%, rounds 3" in (run / "report.html").read_text()
    (spec,) = parse_models(["maesil:masking.name=toy:masking.rounds=5"])
    assert spec.configure(tiny).masking == ToyMasking(rounds=5)

    drawn: list[str] = []
    gallery = masks.mask_gallery
    monkeypatch.setattr(masks, "mask_gallery", lambda found: drawn.extend(found) or gallery(found))
    assert main(["masks", "--out", str(tmp_path / "masks.png"), "--grid", "4", "4", "4"]) == 0
    assert "toy: 50.0% masked" in drawn


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ToyConfig(AutoencoderConfig):
    """An autoencoder by another name."""

    name: Literal["toy"] = "toy"


def make_toy(config: ToyConfig, masking: Masking) -> AE:
    return AE(AEConfig(**{**asdict(config), "name": "ae"}), masking)


def test_model(register: Register, helps: Helps, refused: Helps, tiny: RunConfig, tmp_path: Path) -> None:
    register(MODELS, (ToyConfig, make_toy))
    register(SIZES, partial(autoencoder_beside, kind=ToyConfig))
    assert "of --model.name: toy, maesil" in helps("pretrain")
    assert "the names are toy, maesil" in helps("compare")
    assert "toy, " in refused("pretrain", "tiny", "--model.name", "x")
    assert "toy, " in refused("compare", tiny.data.store, "--out", "y", "--models", "x")

    run = pretrained(tiny, tmp_path / "run", "--model.name", "toy", "--model.channels", "8", "16")
    assert load_run(run).config.model == load_yaml(run / "config.yaml").model
    assert from_dict({"model": {"name": "toy", "latent_channels": 3}}).model == ToyConfig(latent_channels=3)
    said = refused("pretrain", "--config", written(tmp_path / "a.yaml", "model: {name: toy, chanels: [8]}"))
    assert "did you mean 'channels'?" in said
    assert "`toy`" in (run / "checkpoints" / "last" / "card.md").read_text()
    assert main(["evaluate", str(run), *QUICK]) == 0
    assert main(["report", str(run)]) == 0
    assert "<td>toy</td>" in (run / "report.html").read_text()

    out = compared(tiny, tmp_path / "out", "--models", "maesil,toy:channels=[8, 16]")
    (cost,) = [row for row in rows(out / "cost.csv") if row["model"] == "toy"]
    assert float(cost["flops"]) > 0
    assert "toy, channels 8x16, masked input" in (out / "table2.md").read_text()
    assert (out / "compression.png").is_file()


def test_model_without_training(
    register: Register, helps: Helps, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(UNTRAINED, MeanFill)
    monkeypatch.setattr(CEILINGS, "_parts", {"toy_bound": MeanFill, **CEILINGS._parts})
    assert "learn nothing: toy, " in helps("evaluate")
    assert "toy, " in helps("compare")
    assert "toy_bound, " in helps("compare")
    run = pretrained(tiny, tmp_path / "run")
    assert main(["evaluate", str(run), *QUICK]) == 0
    assert "toy" in {score.model for score in read_scores(run / "evaluation" / "test" / "scores.jsonl")}
    out = compared(tiny, tmp_path / "out", "--models", "toy,toy_bound,mean")
    assert {row["model"] for row in rows(out / "table2.csv")} == {"toy", "toy_bound", "mean"}
    for make in MODEL_SETS.values():
        assert "toy" in {spec.label for spec in make(presets.demo()).specs}
    assert "toy_bound" in {spec.label for spec in MODEL_SETS["paper-table"](presets.demo()).specs}


@final
class ToyLayout(Layout):
    """Tree: `toy.txt`, and one volume file per case."""

    name = "toy"
    dataset = "Toys"
    region = "hand"

    def match(self, root: Path) -> str | None:
        """Matches a folder with toy.txt."""
        return "toy.txt is there" if (root / "toy.txt").is_file() else None

    def find(self, root: Path, naming: Naming) -> FoundScans:
        """Every file on the first level."""
        scans = [case_scan(path, path.name.split(".")[0], "Toys", naming, root=root) for path in root.glob("*.nii.gz")]
        return FoundScans(tuple(scans), (), 0)


def test_layout(
    register: Register, helps: Helps, refused: Helps, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(LAYOUTS, ToyLayout())
    shown = helps("datasets")
    assert "each folder: toy, " in shown
    assert "--layout toy|" in shown
    root = tmp_path / "set"
    nifti(root / "a.nii.gz")
    nifti(root / "inner" / "b.nii.gz")
    assert "known: btcv, folder, lidc, nnunet, totalsegmentator, toy" in refused("datasets", root, "--layout", "x")
    assert "does not match the layout 'toy'" in refused("datasets", root, "--layout", "toy")
    written(root / "toy.txt", "")
    listed, table = tmp_path / "scans.json", tmp_path / "table.csv"
    for named in ([], ["--layout", "toy"]):
        assert main(["datasets", str(root), *named, "--out", str(listed), "--table", str(table)]) == 1
        said = capsys.readouterr()
        assert "toy (toy.txt is there)" in said.err
        assert "1 file that may be a scan is not part of this toy tree" in said.err
        (row,) = rows(table)
        assert {"Toys", "hand"} <= set(row.values())
        assert json.loads(listed.read_text())["scans"][0]["scan_id"] == "Toys-a"
    flags = ["--workers", "0", "--policy", "native", "--accept-any-values"]
    assert main(["prepare", str(root), "--out", str(tmp_path / "store"), *flags]) == 1
    assert [entry.dataset for entry in ScanStore(tmp_path / "store").entries] == ["Toys"]


def test_comparison(register: Register, helps: Helps, refused: Helps, tiny: RunConfig, tmp_path: Path) -> None:
    register(MODEL_SETS, lambda preset: ModelSet("A set of toys", parse_models(["mean", "kriging"])))
    assert "names a whole comparison: toy, " in helps("compare")
    assert "known: ablation-masking, bottlenecks, paper-table, slices, toy" in refused(
        "compare", tiny.data.store, "--out", tmp_path / "out", "--preset", "x"
    )
    out = compared(tiny, tmp_path / "out", "--preset", "toy")
    assert {row["model"] for row in rows(out / "table2.csv")} == {"mean", "kriging"}
    assert "<h1>A set of toys</h1>" in (out / "index.html").read_text()


def test_preset(register: Register, helps: Helps, refused: Helps, tiny: RunConfig, tmp_path: Path) -> None:
    register(PRESETS, lambda: replace(tiny, preset="toy", seed=3))
    for command in ("pretrain", "compare"):
        assert "toy, " in helps(command)
    known = f"known: {', '.join(sorted(PRESETS))}"
    assert known.endswith("tiny, toy")
    assert known in refused("pretrain", "x", "--run", "y")
    assert "one of: toy, " in refused("pretrain", "--run", "y")
    assert "toy, " not in refused("compare", "--beside", "toy")
    assert known in refused("compare", "--beside", "x")
    run = tmp_path / "run"
    assert main(["pretrain", "toy", "--data.store", str(tiny.data.store), "--run", str(run)]) == 0
    assert load_run(run).config == replace(tiny, preset="toy", seed=3, data=replace(tiny.data, store=None))
    assert "preset `toy`" in (run / "checkpoints" / "last" / "card.md").read_text()
    backbone, card = starting_point("none", "toy", ScanStore(Path(str(tiny.data.store))), random_start=False)
    assert (backbone.config, card.preset) == (tiny.model, "toy")
    out = compared(tiny, tmp_path / "out", "--models", "mean", beside="toy")
    assert json.loads((out / "comparison.json").read_text())["preset"]["preset"] == "toy"


def test_task(
    register: Register, helps: Helps, refused: Helps, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given: list[str] = []

    def run(words: Sequence[str]) -> int:
        given.extend(words)
        return 0

    register(TASKS, "counts toys")
    module("maesil.commands.finetune_toy", monkeypatch, main=run)
    assert "on a pre-trained encoder: toy, " in helps()
    assert main(["finetune", "--help"]) == 0
    assert "toy counts toys" in " ".join(capsys.readouterr().out.split())
    assert main(["finetune", "toy", "--run", "x"]) == 0
    assert given == ["--run", "x"]
    assert "one of: toy, " in refused("finetune")
    assert "known: classification, segmentation, toy" in refused("finetune", "x")


def test_export_target(
    register: Register, helps: Helps, refused: Helps, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_toy(backbone: Backbone, transfer: Transfer, out: Path) -> str:
        save_weights(backbone.state_dict(), out / WEIGHTS)
        return "print('a toy')"

    register(TARGETS, ("for toys", "toy:write_toy"))
    module("maesil.export.toy", monkeypatch, write_toy=write_toy)
    assert "for another tool: toy, " in helps()
    shown = helps("export")
    assert "toy for toys" in shown
    assert "--to toy|" in shown
    known = "known: huggingface, monai, nnunet, onnx, safetensors, torchscript, toy"
    assert known in refused("export", "x", "--to", "y", "--out", "z")

    run, out = pretrained(tiny, tmp_path / "run"), tmp_path / "toy"
    assert main(["export", str(run), "--to", "toy", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"README.md", "transfer.json", WEIGHTS}
    card = (out / "README.md").read_text()
    assert "exported for `toy`" in card
    assert "```python\nprint('a toy')\n```" in card
    assert Transfer.read(out).target == "toy"
    volume = torch.rand(1, 1, *tiny.model.superpatch)
    torch.testing.assert_close(maesil.load(out)(volume), maesil.load(run)(volume))


def measure_toy(volumes: Volumes, protocol: Protocol, lpips: object) -> Any:
    for region, seen in volumes.seen.items():
        yield region, (seen - volumes.truth).abs().amax().item()


def test_metric(
    register: Register, helps: Helps, tiny: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(METRICS, Metric("toy (mm)", "lower", 3, measure_toy, plain_mean, "Toy: the largest error."))
    assert "Metrics: toy (mm), " in helps("evaluate")
    run = pretrained(tiny, tmp_path / "run")
    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(run), *QUICK, "--json", str(scores)]) == 0
    shown = capsys.readouterr().out
    assert "| toy (mm) ↓ |" in shown
    assert "Toy: the largest error." in shown
    folder = run / "evaluation" / "test"
    assert {"masked", "whole"} <= {one.region for one in read_scores(folder / "scores.jsonl") if one.metric == "toy"}
    assert any(row["metric"] == "toy" for row in json.loads(scores.read_text())["scores"])
    assert any(row["metric"] == "toy" for row in rows(folder / "table.csv"))
    assert "toy (mm)" in (folder / "table.tex").read_text()
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert '<th scope="col">toy (mm) ↓</th>' in page
    assert "Toy: the largest error." in page

    out = compared(tiny, tmp_path / "out", "--models", "mean,kriging")
    assert "toy (mm) ↓" in (out / "table2.md").read_text()
    assert "Toy: the largest error." in (out / "table2.md").read_text()
    for name in ("table2.csv", "table3.csv", "paired.csv"):
        assert any(row["metric"] == "toy" for row in rows(out / name)), name
    assert "toy (mm) ↓" in (out / "index.html").read_text()


def test_protocol(register: Register, helps: Helps, refused: Helps, tiny: RunConfig, tmp_path: Path) -> None:
    register(PROTOCOLS, lambda: Protocol(regions=("masked",), lpips=None, mask_draws=1, mask_seed=7))
    assert "The protocol that --reading names is one of toy, " in helps("evaluate")
    assert "known: masked, toy, unmasked" in refused("evaluate", "--reading", "y", "x")
    run = pretrained(tiny, tmp_path / "run")
    assert main(["evaluate", str(run), "--reading", "toy", "--protocol.mask-seed", "8"]) == 0
    scores = read_scores(run / "evaluation" / "test" / "scores.jsonl")
    assert {score.region for score in scores} == {"masked"}
    assert "one mask draw, seed 8" in scores[0].described
    assert main(["report", str(run)]) == 0
    assert "one mask draw, seed 8" in (run / "report.html").read_text()


def test_command(
    register: Register, refused: Helps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[str] = []

    def run(words: Sequence[str]) -> int:
        given.extend(words)
        return 1

    register(COMMANDS, "play with toys")
    module("maesil.commands.toy", monkeypatch, main=run)
    assert main(["--help"]) == 0
    assert "toy play with toys" in " ".join(capsys.readouterr().out.split())
    assert main(["toy", "--all"]) == 1
    assert given == ["--all"]
    assert "did you mean 'toy'?" in refused("tox")


def test_new_parts__are_gone(tiny_config: RunConfig) -> None:
    """The tests above add to catalogues that other tests read."""
    for catalog in (MASKINGS, MODELS, UNTRAINED, LAYOUTS, MODEL_SETS, PRESETS, TASKS, TARGETS, METRICS, PROTOCOLS):
        assert "toy" not in catalog
    assert from_dict(to_dict(tiny_config)) == tiny_config
    assert "toy" not in dump_yaml(tiny_config)
