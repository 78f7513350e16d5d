"""Published weights: verified wherever they come from, and one line of error for whatever is wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import maesil
from http_server import Served, served
from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig
from maesil.ct.readers import read
from maesil.encoder.card import Transfer
from maesil.encoder.source import absolute_source, local_folder
from maesil.errors import CheckpointError, ConfigError, DownloadError, ScanError
from maesil.export.publish import Published, publish
from maesil.files import read_json
from maesil.runs import published as module
from maesil.runs.from_weights import initial_of, with_absolute_init
from maesil.runs.lock import locked
from maesil.runs.published import PublishedNameWarning
from maesil.view.sources import open_sources

ABOUT = "## Data\n\nMade-up scans, licence CC0.\n"


@pytest.fixture(scope="module")
def run(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import TINY_MODEL
    from maesil.datasets.splits import SplitConfig
    from maesil.sampling.config import DataConfig, HoldoutConfig
    from maesil.training.config import EfficiencyConfig, TrainConfig

    patients = SplitConfig(fractions=(1.0, 0.0, 0.0), overrides={"c": "val", "d": "test"})
    config = replace(
        RunConfig(),
        preset="tiny",
        data=DataConfig(store=tiny_store, holdout=HoldoutConfig(patients=patients)),
        model=TINY_MODEL,
        train=TrainConfig(steps=1, batch=2, peak_lr=1e-3),
        efficiency=EfficiencyConfig(accelerator="cpu", precision="32-true", threads=1),
    )
    path = tmp_path_factory.mktemp("published") / "run"
    pipeline.pretrain(config, path)
    return path


@pytest.fixture(scope="module")
def done(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("weights")
    (folder / "about.md").write_text(ABOUT)
    return publish(run, folder / "tiny", folder / "about.md")


@pytest.fixture
def release(done: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The weights `tiny`, known to the package but not in it, at a local address; the cache is empty."""
    shutil.copytree(done.folder, tmp_path / "release" / "tiny")
    with served(tmp_path / "release") as state:
        monkeypatch.setattr(module, "_record", lambda: {"address": state.address, "weights": {"tiny": done.digest}})
        monkeypatch.setenv("MAESIL_CACHE", str(tmp_path / "cache"))
        yield state


@torch.no_grad()
def test_publish__is_the_run_in_fp16(run: Path, done: Published) -> None:
    assert done.whole
    assert {tensor.dtype for tensor in load_file(done.folder / "model.safetensors").values()} == {torch.float16}
    files = {path.name for path in done.folder.iterdir()}
    assert files == {"config.json", "model.safetensors", "transfer.json", "README.md", "SHA256SUMS"}
    assert "licence CC0" in (done.folder / "README.md").read_text()
    assert Transfer.read(done.folder).voxels["spacing_mm"] == 2.0
    volume = torch.rand(1, 1, 32, 32, 32)
    torch.testing.assert_close(maesil.load(done.folder)(volume), maesil.load(run)(volume), atol=0.02, rtol=0.02)


def test_publish__is_a_run_for_the_other_commands(done: Published, scans: Path, tmp_path: Path) -> None:
    pipeline.reconstruct(done.folder, scans / "d.nii.gz", tmp_path / "rebuilt.nii.gz")
    assert maesil.load(done.folder).embed(scans / "d.nii.gz").vector.dtype == np.float32


def test_publish__the_encoder_alone_if_the_whole_is_too_large(
    run: Path, done: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "about.md").write_text(ABOUT)
    monkeypatch.setattr("maesil.export.publish.LARGEST_BYTES", done.size * 0.8)
    small = publish(run, tmp_path / "small", tmp_path / "about.md")
    assert not small.whole
    assert small.size < done.size * 0.8
    assert maesil.load(small.folder).depth == 1
    with pytest.raises(CheckpointError, match="exported encoder"):
        pipeline.evaluate(small.folder)
    monkeypatch.setattr("maesil.export.publish.LARGEST_BYTES", 1000)
    with pytest.raises(CheckpointError, match=r"more than 0 MB"):
        publish(run, tmp_path / "none", tmp_path / "about.md")
    assert not (tmp_path / "none").exists()


def test_publish__refuses_what_it_must_not_write(run: Path, tmp_path: Path) -> None:
    about = tmp_path / "about.md"
    with pytest.raises(ConfigError, match="cannot be read"):
        publish(run, tmp_path / "out", about)
    about.write_text("weights")
    with pytest.raises(ConfigError, match="nothing about licences"):
        publish(run, tmp_path / "out", about)
    about.write_text(ABOUT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="neither empty nor published"):
        publish(run, tmp_path / "out", about)


def test_locked__warns_of_the_name_of_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of a new folder in the working folder; ./NAME, which the warning advises, is the folder."""
    monkeypatch.chdir(tmp_path)
    for new in (Path("runs/demo-2mm"), Path("demo")):
        with locked(new):
            pass
    with (
        pytest.warns(PublishedNameWarning, match=r"give them ./demo-2mm, or this folder another name"),
        locked(Path("demo-2mm")),
    ):
        pass
    with locked(Path("demo-2mm")):
        pass
    assert absolute_source("./demo-2mm") == str(tmp_path / "demo-2mm")
    with pytest.raises(ConfigError, match="either could be meant"):
        absolute_source("demo-2mm")


def test_publish__into_the_working_folder_and_through_a_link(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "about.md").write_text(ABOUT)
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to("place")
    monkeypatch.chdir(tmp_path / "place")
    for out in (Path(), tmp_path / "link"):
        assert publish(run, out, tmp_path / "about.md").folder.name == "place"
        assert Transfer.read(Path()).target == "maesil.load"
    assert 'maesil.load("place")' in Path("README.md").read_text()


def test_publish__replaces_only_published_weights_that_are_the_same(run: Path, done: Published, tmp_path: Path) -> None:
    about = tmp_path / "about.md"
    about.write_text(ABOUT)
    out = Path(shutil.copytree(done.folder, tmp_path / "tiny"))
    assert publish(run, out, about).digest == done.digest
    weights = load_file(out / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, out / "model.safetensors")
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"this folder has other weights, from preset .*, step") as raised:
        publish(run, out, about)
    assert raised.value.where == str(out)
    assert (out / "model.safetensors").read_bytes() == before
    (out / "SHA256SUMS").unlink()
    with pytest.raises(ConfigError, match="neither empty nor published weights"):
        publish(run, out, about)


def test_publish__the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "about.md").write_text(ABOUT)
    assert main(["publish", str(run), "--out", str(tmp_path / "x"), "--about", str(tmp_path / "about.md")]) == 0
    shown = capsys.readouterr().out
    assert "encoder and decoder" in shown
    assert shown.splitlines()[-1].startswith('"x": "')


def test_load__fetches_once_and_verifies(release: Served, done: Published, tmp_path: Path) -> None:
    assert maesil.load("tiny").depth == 1
    asked = release.requests
    assert asked == 5
    assert maesil.load("tiny").depth == 1
    assert release.requests == asked
    cached = tmp_path / "cache" / "weights" / "tiny" / "model.safetensors"
    cached.write_bytes(cached.read_bytes()[:-1])
    assert maesil.load("tiny").depth == 1
    assert release.requests == 2 * asked
    assert cached.read_bytes() == (done.folder / "model.safetensors").read_bytes()


def test_load__a_hash_that_differs(release: Served, tmp_path: Path) -> None:
    path = tmp_path / "release" / "tiny" / "transfer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(DownloadError, match=r"not the published one: its sha256 starts with"):
        maesil.load("tiny")
    (path.parent / "SHA256SUMS").write_text("")
    with pytest.raises(DownloadError, match="not the published one"):
        maesil.load("tiny")
    assert not (tmp_path / "cache" / "weights" / "tiny").exists()


@pytest.mark.parametrize("fault", [404, 503, 0])
def test_load__a_server_that_fails(release: Served, fault: int, tmp_path: Path) -> None:
    release.faults[:] = [200, fault]
    with pytest.raises(DownloadError, match=r"could not be fetched|not the published one"):
        maesil.load("tiny")
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_load__no_network_and_no_address(
    release: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MAESIL_WEIGHTS_URL", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="could not be fetched"):
        maesil.load("tiny")
    assert main(["export", "tiny", "--to", "safetensors", "--out", str(tmp_path / "out")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("MAESIL_WEIGHTS_URL", "file:///etc")
    with pytest.raises(ConfigError, match="not an address"):
        maesil.load("tiny")
    monkeypatch.delenv("MAESIL_WEIGHTS_URL")
    record = {**module._record(), "address": None}
    monkeypatch.setattr(module, "_record", lambda: record)
    with pytest.raises(DownloadError, match="no release address is known"):
        maesil.load("tiny")


def test_load__a_changed_file_in_a_folder_with_checksums(done: Published, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(done.folder, tmp_path / "copy"))
    (copy / "config.json").write_text((copy / "config.json").read_text().replace("tiny", "tony"))
    with pytest.raises(CheckpointError, match=r"config.json differs from its checksum"):
        maesil.load(copy)
    (copy / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config.json is missing"):
        maesil.load(copy)


def test_load__weights_of_another_architecture(done: Published, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(done.folder, tmp_path / "copy"))
    (copy / "SHA256SUMS").unlink()
    record = json.loads((copy / "config.json").read_text())
    record["config"]["model"]["encoder_width"] = 48
    (copy / "config.json").write_text(json.dumps(record))
    with pytest.raises(
        CheckpointError, match=r"do not fit the model: \S+ is \[.*\], not \[.*\], and \d+ more"
    ) as raised:
        maesil.load(copy)
    assert "\n" not in raised.value.what


def test_pretrain__starts_from_published_weights_by_their_name(run: Path, release: Served, tmp_path: Path) -> None:
    more = tmp_path / "more"
    assert main(["pretrain", "--config", str(run / "config.yaml"), "--init", "tiny", "--run", str(more)]) == 0
    record = read_json(more / "checkpoints" / "last" / "config.json")
    assert record["init"]["loaded"].startswith("all weights")
    assert record["init"]["step"] == 1
    assert release.requests, "they are fetched"


def test_load__an_unknown_name_lists_the_published_ones(release: Served) -> None:
    with pytest.raises(CheckpointError, match="no published weights have this name") as raised:
        maesil.load("tinny")
    assert "tiny" in str(raised.value)


def test_published__what_the_package_holds_is_what_it_vouches_for() -> None:
    record = json.loads(module._RECORD.read_text())
    folders = {path.name for path in module._PACKAGED.iterdir()} if module._PACKAGED.is_dir() else set()
    assert folders <= set(record["weights"])
    for name in folders:
        encoder = maesil.load(name)
        assert encoder.card.step > 0
        card = (module._PACKAGED / name / "README.md").read_text()
        assert "licen" in card.lower()


@pytest.mark.parametrize("name", module.published_names())
def test_reconstruct__by_the_name_of_published_weights(name: str, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "rebuilt.nii.gz"
    assert main(["reconstruct", name, str(scans / "a.nii.gz"), "--out", str(out), "--no-whole-scan"]) == 0
    assert read(out).shape == read(scans / "a.nii.gz").shape
    again, _ = pipeline.reconstruct(name, scans / "a.nii.gz", tmp_path / "again.nii.gz", whole_scan=False)
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "NAME"],
        ["report", "NAME"],
        ["publish", "NAME", "--out", "out"],
        ["predict", "NAME", "scan.nii.gz", "--out", "out.nii.gz"],
        ["view", "NAME"],
    ],
)
def test_name__where_a_run_is_needed_says_what_takes_it(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = module.published_names()[0]
    assert main([name if word == "NAME" else word for word in words]) == 2
    said = capsys.readouterr().err
    assert "this is the name of published weights, and this command needs a" in said
    assert "--init take the name" in said
    assert main([name[:-1] if word == "NAME" else word for word in words]) == 2
    assert "published weights" not in capsys.readouterr().err


def test_view__by_the_name_of_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="this is the name of published weights"):
        open_sources([Path(module.published_names()[0])])


def test_name__of_something_else_here_is_refused_and_of_a_copy_is_not(
    run: Path,
    done: Published,
    release: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    shutil.copytree(run, "tiny")
    fresh = replace(RunConfig(), init="tiny")
    for take in (maesil.load, local_folder, absolute_source, initial_of, lambda _: with_absolute_init(fresh)):
        with pytest.raises(ConfigError, match="it is the name of published weights, too") as refused:
            take("tiny")
        assert f"give its whole path, {here / 'tiny'}" in str(refused.value)
    assert local_folder(str(here / "tiny")) == here / "tiny"
    assert local_folder("./tiny") == Path("tiny")
    capsys.readouterr()
    assert main(["report", "tiny"]) == 2
    assert "either could be meant" not in capsys.readouterr().err, "a run is needed, so only the folder can be meant"
    out = tmp_path / "rebuilt.nii.gz"
    for said in ("./tiny", Path("tiny")):
        with pytest.raises(ScanError):  # of the scan: which weights are meant is clear
            pipeline.reconstruct(said, tmp_path / "absent.nii.gz", out)
    shutil.rmtree("tiny")
    shutil.copytree(done.folder, "tiny")
    assert maesil.load("tiny").card.step == 1
    assert absolute_source("tiny") == str(here / "tiny")
    assert not release.requests, "a copy is taken as it is"
    shutil.rmtree("tiny")
    assert absolute_source("tiny") == "tiny"
