"""A run on several devices is the run on one with a batch as large as theirs together."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maesil.config import RunConfig, dump_yaml
from maesil.training.logs import curve

SCRIPT = Path(__file__).with_name("many_devices.py")


def settings(config: RunConfig, folder: Path, batch: int) -> Path:
    """Four steps with flips and validation, logged one by one."""
    path = folder / f"batch-{batch}.yaml"
    train = replace(config.train, steps=4, batch=batch)
    monitor = replace(config.monitor, log_every=1, validate_every=2, validation_superpatches=4, checkpoint_every=4)
    path.write_text(dump_yaml(replace(config, train=train, monitor=monitor)))
    return path


def launch(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_pretrain__two_processes_are_one_with_twice_the_batch(tiny_config: RunConfig, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    launch(SCRIPT, settings(tiny_config, tmp_path, 4), alone, 1)
    launch(SCRIPT, settings(tiny_config, tmp_path, 2), together, 2)
    expected, found = (load_file(run / "gradients-0.safetensors") for run in (alone, together))
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    for column in ("loss", "val_psnr_masked"):
        steps, values = curve(alone / "logs" / "metrics.csv", column)
        assert steps == curve(together / "logs" / "metrics.csv", column)[0]
        np.testing.assert_allclose(curve(together / "logs" / "metrics.csv", column)[1], values, rtol=1e-4)


@pytest.mark.slow
def test_pretrain__only_the_first_process_prints(tiny_config: RunConfig, tmp_path: Path) -> None:
    words = ["--config", settings(tiny_config, tmp_path, 1), "--run", tmp_path / "run", "--efficiency.devices", 2]
    done = launch("-m", "maesil", "pretrain", *words, "--json")
    assert done.stdout.count('"finished"') == 1
    assert done.stderr.count("finished at step 4 of 4") == 1
    assert done.stderr.count("step 4/4") == 1
