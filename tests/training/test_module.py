"""What one step does: finite losses, gradients over devices, logs and checkpoints."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from maesil import pipeline
from maesil.config import RunConfig, dump_yaml
from maesil.ct.window import Window
from maesil.encoder.card import save_weights
from maesil.errors import CheckpointError, ConfigError, StoreError, TrainingError
from maesil.masking import DualMasking
from maesil.models.mae import Encoder, MAEConfig, MaskedAutoencoder
from maesil.runs.load import load_run
from maesil.sampling.config import HoldoutConfig
from maesil.sampling.dataset import Superpatches
from maesil.sampling.plan import Place
from maesil.store.format import OCCUPANCY, scan_path
from maesil.store.scanstore import ScanStore
from maesil.training.checkpoint import write_model
from maesil.training.config import Precision, TrainConfig
from maesil.training.logs import curve, read_log
from maesil.training.module import PretrainModule

TINY = MAEConfig(
    superpatch=(32, 32, 32), encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2,
)  # fmt: skip


def test_pretrain__writes_config_checkpoints_and_logs(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = pipeline.pretrain(tiny_config, run)
    assert (outcome.status, outcome.step) == ("finished", 12)
    assert (run / "config.yaml").is_file()
    for which in ("last", "best"):
        loaded = load_run(run, checkpoint=which)  # type: ignore[arg-type]
        assert loaded.config.model == tiny_config.model
        assert loaded.record["datasets"] == {tiny_config_dataset(tiny_config): 2}, "of four scans two are trained on"
        assert "store" not in loaded.record["config"]["data"]
        assert "MAESIL" in (loaded.folder / "card.md").read_text()
    steps, losses = curve(run / "logs" / "metrics.csv", "loss")
    assert steps == [2, 4, 6, 8, 10, 12]
    assert np.isfinite(losses).all()
    assert curve(run / "logs" / "metrics.csv", "val_psnr_masked")[0] == [4, 8, 12]
    assert {"superpatches_per_s", "data_wait_share", "memory_gib"} <= set(read_log(run / "logs" / "metrics.csv")[0])
    assert list((run / "logs" / "tensorboard").glob("events*"))
    assert len([folder for folder in (run / "checkpoints").iterdir() if folder.is_symlink()]) == 2
    assert len([folder for folder in (run / "checkpoints").iterdir() if not folder.is_symlink()]) == 2


def test_pretrain__a_card_has_the_scores_of_its_own_step(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of a step is saved before the step's validation, and may fall between two validations."""
    cards: dict[int, str] = {}
    usual = write_model

    def write(folder: Path, weights: Any, config: Any, card: str) -> None:
        cards.setdefault(config["step"], card)
        usual(folder, weights, config, card)

    monkeypatch.setattr("maesil.training.callbacks.write_model", write)
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=10)), tmp_path)
    log = tmp_path / "logs" / "metrics.csv"
    score, loss = (dict(zip(*curve(log, name), strict=True)) for name in ("val_psnr_masked", "loss"))
    last = (tmp_path / "checkpoints" / "last" / "card.md").read_text()
    assert f"- val_psnr_masked: {score[10]:.4g}\n" in last
    assert "(step" not in last
    assert f"- val_psnr_masked (step 8): {score[8]:.4g}\n" in cards[9]
    assert f"- loss (step 8): {loss[8]:.4g}\n" in cards[9]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_checkpoints__have_the_mode_that_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_model(tmp_path, {"a": torch.zeros(2)}, {}, "")
        save_weights({"a": torch.zeros(2)}, tmp_path / "exported.safetensors")
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "model.safetensors": 0o640,
        "exported.safetensors": 0o640,
        "config.json": 0o640,
        "card.md": 0o640,
    }


def test_pretrain__images_of_a_held_out_superpatch(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny_config, monitor=replace(tiny_config.monitor, image_every=5))
    pipeline.pretrain(config, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "logs" / "tensorboard"))
    events.Reload()
    images = events.Images("held-out superpatch")
    assert [image.step for image in images] == [5, 10, 12]
    assert (images[0].width, images[0].height) == (4 * 32, 32), "original, masked input, reconstruction, error"


def test_pretrain__says_that_nothing_is_held_out(tiny_config: RunConfig, tmp_path: Path) -> None:
    split = replace(tiny_config.data.holdout.patients, overrides={"d": "test"})
    data = replace(tiny_config.data, holdout=replace(tiny_config.data.holdout, patients=split))
    console = Console(file=io.StringIO(), width=200)
    pipeline.pretrain(replace(tiny_config, data=data), tmp_path / "run", console=console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "no patient is held out" in printed
    assert "overrides PATIENT val" in printed
    patients = {entry.patient for entry in ScanStore(tiny_config.data.store).entries}  # type: ignore[arg-type]
    assert f"{len(patients) - 1} patients to train on, 0 for validation, 1 for testing" in printed


def overriding(config: RunConfig, overrides: dict[str, Literal["train", "val", "test"]]) -> RunConfig:
    split = replace(config.data.holdout.patients, overrides=overrides)
    return replace(config, data=replace(config.data, holdout=replace(config.data.holdout, patients=split)))


def test_pretrain__warns_of_a_split_without_a_test(tiny_config: RunConfig, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=400)
    pipeline.pretrain(overriding(tiny_config, {"c": "val"}), tmp_path / "run", console=console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "none of the 4 patients is for testing" in printed
    assert "patients: a, b, c, d" in printed


def test_pretrain__warns_where_patients_could_be_held_out(tiny_config: RunConfig, tmp_path: Path) -> None:
    data = replace(tiny_config.data, holdout=HoldoutConfig(by="superpatch"))
    console = Console(file=io.StringIO(), width=400)
    pipeline.pretrain(replace(tiny_config, data=data), tmp_path / "run", console=console)
    assert "warning: all 4 patients are trained on" in console.file.getvalue()  # type: ignore[attr-defined]


def test_pretrain__refuses_to_hold_out_somebody_who_is_not_there(tiny_config: RunConfig, tmp_path: Path) -> None:
    """By a typing error, a patient to test on would be trained on."""
    with pytest.raises(ConfigError, match="no patient is called 'dd'") as refused:
        pipeline.pretrain(overriding(tiny_config, {"c": "val", "dd": "test"}), tmp_path / "run")
    assert refused.value.fix == "did you mean 'd'?"
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError) as refused:
        pipeline.pretrain(overriding(tiny_config, {"somebody": "test"}), tmp_path / "run")
    assert refused.value.fix == "its patients: a, b, c, d"


def test_pretrain__damaged_validation_scans_are_no_empty_split(tiny_config: RunConfig, tmp_path: Path) -> None:
    store = shutil.copytree(tiny_config.data.store, tmp_path / "store")  # type: ignore[arg-type]
    (held_out,) = (entry.scan_id for entry in ScanStore(store).entries if entry.patient == "c")
    shutil.rmtree(scan_path(store, held_out) / OCCUPANCY)
    data = replace(tiny_config.data, store=store)
    with pytest.raises(StoreError, match=f"the arrays of '{held_out}' are damaged"):
        pipeline.pretrain(replace(tiny_config, data=data), tmp_path / "run")


def test_pretrain__writing_checkpoints_is_no_waiting_for_data(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: object) -> None:
        time.sleep(0.2)
        write_model(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("maesil.training.callbacks.write_model", slow)
    monitor = replace(tiny_config.monitor, checkpoint_every=1)
    pipeline.pretrain(replace(tiny_config, monitor=monitor), tmp_path / "run")
    rows = read_log(tmp_path / "run" / "logs" / "metrics.csv")
    measured = [row for row in rows if row["superpatches_per_s"]]
    rates = [float(row["superpatches_per_s"]) for row in measured]
    assert max(rates) > 4 / 0.4, "two steps of two superpatches wait for two checkpoints of 0.2 s"
    waits_s = [float(row["data_wait_share"]) * 4 / rate for row, rate in zip(measured, rates, strict=True)]
    assert np.median(waits_s) < 0.1, "the checkpoints' 0.2 s are taken for waiting"


@pytest.mark.parametrize(("scores", "best"), [((10.0, math.nan, 5.0), 4), ((10.0, math.nan, 20.0), 12)])
def test_pretrain__a_score_that_is_no_number_is_never_the_best(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, ...], best: int
) -> None:
    """It neither replaces `best` nor ends the comparison; validation is at steps 4, 8 and 12."""

    def validation_step(module: PretrainModule, batch: Superpatches, batch_index: int) -> None:
        module.log(module.score, torch.tensor(scores[module.global_step // 4 - 1]), on_epoch=True, logger=False)

    monkeypatch.setattr(PretrainModule, "validation_step", validation_step)
    monitor = replace(tiny_config.monitor, validation_superpatches=1)
    pipeline.pretrain(replace(tiny_config, monitor=monitor), tmp_path / "run")
    assert load_run(tmp_path / "run", checkpoint="best").record["step"] == best


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pretrain__gradients_that_are_not_finite_are_never_published(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """The loss of the same step is a number."""
    clip = PretrainModule.configure_gradient_clipping

    def spoil(module: PretrainModule, *arguments: object, **named: object) -> None:
        if module.global_step == 6:
            next(module.parameters()).grad[0] = value  # type: ignore[index]
        clip(module, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(PretrainModule, "configure_gradient_clipping", spoil)
    monitor = replace(tiny_config.monitor, checkpoint_every=1)
    with pytest.raises(TrainingError, match="is not finite after step 7"):
        pipeline.pretrain(replace(tiny_config, monitor=monitor), tmp_path / "run")
    assert load_run(tmp_path / "run").record["step"] == 6


def test_check_weights__names_the_first_that_is_not_finite() -> None:
    model = MaskedAutoencoder(TINY, DualMasking())
    module = PretrainModule(model, TrainConfig(steps=3), Window(), (), 0)
    module.check_weights()
    with torch.no_grad():
        model.encoder.norm.bias[3] = float("inf")
    with pytest.raises(TrainingError, match=r"'encoder\.norm\.bias' is not finite after step 0"):
        module.check_weights()


def tiny_config_dataset(config: RunConfig) -> str:
    manifest = json.loads((config.data.store / "manifest.json").read_text())  # type: ignore[operator]
    return str(manifest["scans"][0]["dataset"])


def test_pretrain__learns(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny_config, train=replace(tiny_config.train, steps=60, batch=4, peak_lr=4e-3))
    config = replace(config, data=replace(config.data, padded_crops=False))  # of even difficulty: the loss is smooth
    pipeline.pretrain(config, tmp_path / "run")
    _, losses = curve(tmp_path / "run" / "logs" / "metrics.csv", "loss")
    assert np.mean(losses[-5:]) < 0.6 * losses[0]


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_pretrain__in_half_precision_on_a_cpu(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    """What the blocks compute in is what was asked for; the weights stay float32."""
    seen = set()
    forward = Encoder.forward

    def watch(*arguments: object) -> torch.Tensor:
        seen.add(torch.get_autocast_dtype("cpu"))
        return forward(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "forward", watch)
    efficiency = replace(tiny_config.efficiency, precision=precision)
    config = replace(tiny_config, efficiency=efficiency)
    pipeline.pretrain(config, tmp_path / "run")
    assert seen == {torch.float16 if precision == "16-mixed" else torch.bfloat16}
    weights = load_file(tmp_path / "run" / "checkpoints" / "last" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    losses = curve(tmp_path / "run" / "logs" / "metrics.csv", "loss")[1]
    pipeline.pretrain(tiny_config, tmp_path / "exact")
    np.testing.assert_allclose(losses, curve(tmp_path / "exact" / "logs" / "metrics.csv", "loss")[1], rtol=0.05)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU: g++ is not here")
def test_pretrain__compiled(tiny_config: RunConfig, tmp_path: Path) -> None:
    """In a process of its own: the checks of shapes that tests run with cannot be traced."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(dump_yaml(tiny_config))
    words = ["pretrain", "--config", str(settings), "--run", str(tmp_path / "run"), "--efficiency.compile"]
    done = subprocess.run([sys.executable, "-m", "maesil", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compile: true" in (tmp_path / "run" / "config.yaml").read_text()
    pipeline.pretrain(tiny_config, tmp_path / "eager")
    compiled, eager = (curve(tmp_path / run / "logs" / "metrics.csv", "loss") for run in ("run", "eager"))
    assert compiled[0] == eager[0]
    np.testing.assert_allclose(compiled[1], eager[1], rtol=1e-3)


def test_pretrain__an_empty_split_is_a_clear_error(tiny_config: RunConfig, tmp_path: Path) -> None:
    nowhere = replace(tiny_config.data, min_tissue=0.999)
    with pytest.raises(StoreError, match="no superpatch"):
        pipeline.pretrain(replace(tiny_config, data=nowhere), tmp_path / "run")


def test_load__damaged_checkpoints_are_clear_errors(tiny_config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_run(tmp_path / "absent")
    run = tmp_path / "run"
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=3)), run)
    file = (run / "checkpoints" / "last").resolve() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_run(run)


def superpatches(count: int) -> Superpatches:
    random = np.random.default_rng(1)
    hu = torch.from_numpy(random.integers(-1000, 1000, (count, 1, 32, 32, 32)).astype(np.int16))
    places = [Place("scan-7", (16 * i, 0, 0)) for i in range(count)]
    return Superpatches(hu, list(range(count)), places, torch.full((count, 3), 32))


def test_check_finite__names_the_step_and_the_superpatches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MaskedAutoencoder(TINY, DualMasking())
    module = PretrainModule(model, TrainConfig(), Window(), (), seed=0)
    module.training_step(superpatches(2), 0)
    module.check_finite()
    with torch.no_grad():
        model.encoder.embed.weight[0, 0] = float("nan")
    module.training_step(superpatches(2), 1)
    with pytest.raises(TrainingError, match="loss became nan in step 0") as caught:
        module.check_finite()
    assert "scan-7@(16, 0, 0)" in str(caught.value)


def test_pretrain__stops_at_a_loss_that_is_not_finite(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At step 7; a checkpoint of each step before is there, and the last one is kept and sound."""
    batch_loss = PretrainModule.batch_loss

    def spoil(module: PretrainModule, batch: Superpatches) -> torch.Tensor:
        loss = batch_loss(module, batch)
        return loss * math.nan if module.global_step == 7 else loss

    monkeypatch.setattr(PretrainModule, "batch_loss", spoil)
    config = replace(tiny_config, monitor=replace(tiny_config.monitor, checkpoint_every=1))
    with pytest.raises(TrainingError, match="loss became nan in step 7"):
        pipeline.pretrain(config, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last"
    assert load_run(tmp_path / "run").record["step"] == 7
    assert all(tensor.isfinite().all() for tensor in load_file(last / "model.safetensors").values())


def test_pretrain__a_learning_rate_that_is_far_too_high_stops(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny_config, train=replace(tiny_config.train, peak_lr=1e30, clip_norm=None, warmup=0.0, steps=50))
    with pytest.raises(TrainingError, match="loss became"):
        pipeline.pretrain(config, tmp_path / "run")
