"""The estimate of a run against the run itself, and its arithmetic."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig, dump_yaml
from maesil.errors import ConfigError
from maesil.memory import GIB
from maesil.models import MODELS, make_model
from maesil.models.cost import mae_flops
from maesil.models.fusion import FusionConfig
from maesil.planning.estimate import VOXEL_BYTES, plan
from maesil.planning.footprint import _kept_bytes, footprint
from maesil.planning.rehearsal import Rehearsal, Steps
from maesil.planning.text import estimate_text
from maesil.presets import PRESETS
from maesil.presets.baselines import baseline
from maesil.sampling.holdout import scan_splits
from maesil.shapes import product
from maesil.store.scanstore import ScanStore
from maesil.training.config import TrainConfig
from maesil.training.optimizer import make_optimizer


def test_plan__foretells_the_run(tiny_config: RunConfig, tmp_path: Path) -> None:
    """What can be known exactly is what the run then has: parameters, passes, checkpoints on disk."""
    estimate = plan(tiny_config, seconds=1.0)
    run = pipeline.pretrain(tiny_config, tmp_path / "run").run
    model = make_model(tiny_config.model, tiny_config.masking)
    assert estimate.parameters == sum(value.numel() for value in model.parameters())
    last, best = ((run / "checkpoints" / link).resolve() for link in ("last", "best"))
    files = [*last.glob("trainer.ckpt"), *last.glob("*.safetensors"), *best.glob("*.safetensors")]
    on_disk = sum(path.stat().st_size for path in files)
    assert estimate.checkpoints_gib * GIB == pytest.approx(
        on_disk, rel=0.25
    )  # much of a tiny network's files is headers
    assert estimate.passes == pytest.approx(12 * 2 / estimate.superpatches)
    assert estimate.hours == pytest.approx(estimate.training_h + estimate.validation_h + estimate.checkpoints_h)
    assert estimate.measured_batch == estimate.batch == 2
    assert estimate.limit == ("loader" if 2 / estimate.read_per_s > estimate.step_s * 0.999 else "step")


def test_plan__writes_nothing(tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    plan(tiny_config, seconds=1.0)
    assert list(tmp_path.iterdir()) == []


def test_plan__on_several_devices(tiny_config: RunConfig) -> None:
    estimate = plan(tiny_config, seconds=1.0)
    one, four, eight = estimate.on_devices
    assert (one.devices, one.batch, one.exchanged_gib) == (1, 2, 0.0)
    assert one.hours == pytest.approx(estimate.hours)
    assert (four.batch, four.hours) == (None, None), "two superpatches cannot be divided by four"
    assert four.passes == pytest.approx(4 * one.passes)
    assert eight.exchanged_gib == pytest.approx(2 * 7 / 8 * estimate.parameters * 4 / GIB)


@pytest.mark.parametrize(("name", "value"), [("device_gib", 0.0), ("seconds", -1.0)])
def test_plan__refuses_numbers_that_are_not_positive(tiny_config: RunConfig, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match="it should be greater than 0"):
        plan(tiny_config, **{name: value})
    with pytest.raises(ConfigError, match="no store is given"):
        plan(replace(tiny_config, data=replace(tiny_config.data, store=None)))


def test_plan__the_command(tiny_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text(dump_yaml(tiny_config))
    words = ["plan", "--config", str(tmp_path / "run.yaml"), "--seconds", "1", "--device-gib", "24"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device_gib"] == 24
    memory = found["memory"]
    assert memory["checkpoint"] == memory["weights"] + memory["moments"]  # 1.2 GiB of the preset paper
    parts = ("weights", "gradients", "moments", "activations", "process", "cache", "checkpoint")
    assert memory["formula"] == pytest.approx(sum(memory[part] for part in parts))
    assert found["fitting_batch"] > 1000
    assert main(words) == 0
    said = capsys.readouterr()
    assert "reading 16 superpatches" in said.err
    assert "3/3  steps of 1 superpatch" in said.err
    printed = said.out
    for part in (
        "network",
        "memory",
        "time     12 steps, about",
        "data",
        "disk",
        "devices  1:",
        "largest batch for 24.00 GiB of memory: ",
    ):
        assert part in printed


def test_text__advises_against_weeks_on_a_cpu(tiny_config: RunConfig) -> None:
    estimate = plan(tiny_config, seconds=1.0)
    long = replace(estimate, hours=200.0)
    assert "12 steps, about 8 d 8 h" in estimate_text(long, tiny_config)
    for passes, said in ((0.254, "0.25 passes"), (9600.4, "9,600 passes")):
        assert said in estimate_text(replace(long, passes=passes), tiny_config)
    assert "on a CPU, use a smaller preset (`maesil pretrain small ...`)" in estimate_text(long, tiny_config)
    assert "smaller preset" not in estimate_text(estimate, tiny_config)
    assert "smaller preset" not in estimate_text(replace(long, device="A GPU"), tiny_config)
    assert "smaller preset" not in estimate_text(long, replace(tiny_config, preset="demo"))


def test_rehearsal__extends_what_it_measured() -> None:
    one, four = Steps(1, 2.0, 2.0, 1.0), Steps(4, 5.0, 5.0, 2.5)
    measured = Rehearsal(one, four, four, 0.0, 0.5, 0.1, 50.0, 1.0)
    assert [measured.seconds(batch) for batch in (1, 2, 4, 8)] == pytest.approx([2.0, 3.0, 5.0, 10.0])
    assert [measured.gib(batch, by_formula=9.0) for batch in (1, 3, 7)] == pytest.approx([1.0, 2.0, 4.0])
    alone = Rehearsal(one, one, one, 0.0, 0.5, 0.1, 50.0, 1.0)
    assert alone.seconds(3) == pytest.approx(6.0)
    assert alone.gib(3, by_formula=0.25) == pytest.approx(1.5)


def test_rehearsal__counts_the_last_stage() -> None:
    """A quarter of the steps takes twice as long, and half a GiB more."""
    one, four, last = Steps(1, 2.0, 2.0, 1.0), Steps(4, 5.0, 6.0, 2.5), Steps(4, 10.0, 12.0, 3.0)
    measured = Rehearsal(one, four, last, 0.25, 0.5, 0.1, 50.0, 1.0)
    assert [measured.seconds(batch) for batch in (1, 4, 8)] == pytest.approx([2.5, 6.25, 12.5])
    assert measured.cpu_seconds(4) == pytest.approx(7.5)
    assert [measured.gib(batch, by_formula=9.0) for batch in (1, 4)] == pytest.approx([1.125, 3.0])


def test_plan__takes_steps_of_the_last_stage(tiny_config: RunConfig) -> None:
    model = replace(tiny_config.model, fusion=FusionConfig(width=4, share=0.25))  # type: ignore[call-arg]
    named: list[str] = []
    estimate = plan(
        replace(tiny_config, model=model), seconds=1.0, progress=lambda done, count, name: named.append(name)
    )
    assert "steps of the fusion of 2 superpatches" in named
    assert estimate.step_s > 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_footprint__moments_are_those_of_the_optimiser(optimizer: str) -> None:
    config = replace(PRESETS["demo"](), train=TrainConfig(optimizer=optimizer))  # type: ignore[arg-type]
    need = footprint(config, "32-true")
    model = make_model(config.model, config.masking)
    made = make_optimizer(model, config.train, 1)
    for value in model.parameters():
        value.grad = torch.zeros_like(value)
    made.step()
    parts = (made.muon, made.adamw) if optimizer == "muon" else (made,)  # type: ignore[attr-defined]
    tensors = [
        value
        for part in parts
        for state in part.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.numel() > 1
    ]
    assert need.moments == pytest.approx(sum(value.numel() * 4 for value in tensors), rel=1e-3)
    assert need.gradients == need.parameters * 4
    assert need.weights == sum(value.numel() * value.element_size() for value in model.state_dict().values())
    assert need.flops == mae_flops(config.model, config.masking.visible_count(config.model.grid))  # type: ignore[arg-type]


@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_footprint__activations_are_what_a_real_step_keeps(decoder: str, tiny_config: RunConfig) -> None:
    config = replace(tiny_config, model=replace(tiny_config.model, decoder=decoder))  # type: ignore[call-arg]
    need = footprint(config, "32-true")
    for batch in (1, 3):
        real = _kept_bytes(make_model(config.model, config.masking), batch, "32-true")
        assert need.shared + batch * need.activations == pytest.approx(real, rel=0.01)
    half = footprint(config, "bf16-mixed")
    assert 0.4 * need.activations < half.activations < need.activations


@pytest.mark.parametrize("name", list(MODELS))
def test_footprint__of_every_model(name: str) -> None:
    config = baseline(name, PRESETS["demo"]())
    need = footprint(config, "32-true")
    assert need.activations > 100 * 64**2
    assert need.flops > 1e8


def test_reset_peak__forgets_earlier_memory() -> None:
    code = (
        "import mmap; from maesil.memory import peak_resident_gib, reset_peak\n"
        "held = mmap.mmap(-1, 2**28); held.write(b'1' * 2**28); before = peak_resident_gib()\n"
        "held.close(); reset_peak(); print(before - peak_resident_gib())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) > 0.2


def test_plan__counts_the_scans_that_a_run_reads(tiny_config: RunConfig) -> None:
    store = ScanStore(tiny_config.data.store)  # type: ignore[arg-type]
    splits = scan_splits(store, tiny_config.data.holdout)
    assert "test" in splits.values()
    read = [entry for entry in store.entries if splits[entry.scan_id] != "test"]
    estimate = plan(tiny_config, seconds=1.0)
    assert estimate.memory.cache == pytest.approx(sum(product(entry.shape) for entry in read) * VOXEL_BYTES / GIB)
    unvalidated = replace(tiny_config, monitor=replace(tiny_config.monitor, validate_every=0))
    assert plan(unvalidated, seconds=1.0).memory.cache < estimate.memory.cache
