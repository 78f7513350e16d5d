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
from ranks import WATCHED

STEPS = 4


def pretrain(config: RunConfig, run: Path, devices: int, batch: int) -> subprocess.CompletedProcess[str]:
    """A few steps with flips and validation, logged one by one.

    Five superpatches to validate on: of two processes, one has nothing left at the end.
    """
    settings = run.with_suffix(".yaml")
    train = replace(config.train, steps=STEPS, batch=batch)
    monitor = replace(config.monitor, log_every=1, validate_every=2, validation_superpatches=5, checkpoint_every=STEPS)
    settings.write_text(dump_yaml(replace(config, train=train, monitor=monitor)))
    words = ["pretrain", "--config", settings, "--run", run, "--efficiency.devices", devices, "--json"]
    command = [sys.executable, *map(str, (WATCHED, run, *words))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_pretrain__two_processes_are_one_with_twice_the_batch(tiny_config: RunConfig, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    pretrain(tiny_config, alone, devices=1, batch=4)
    printed = pretrain(tiny_config, together, devices=2, batch=2)
    for step in (0, STEPS - 1):
        expected, found = (load_file(run / f"gradients-{step}.safetensors") for run in (alone, together))
        assert expected.keys() == found.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
    assert all(bool(gradient.any()) for gradient in expected.values())  # the head begins with zeros: not so in step 0
    for column in ("loss", "val_psnr_masked"):
        steps, values = curve(alone / "logs" / "metrics.csv", column)
        assert steps == curve(together / "logs" / "metrics.csv", column)[0]
        np.testing.assert_allclose(curve(together / "logs" / "metrics.csv", column)[1], values, rtol=1e-4)
    # Of the two processes, the first alone prints.
    assert printed.stdout.count('"finished"') == 1
    assert printed.stderr.count(f"finished at step {STEPS} of {STEPS}") == 1
    assert printed.stderr.count(f"step {STEPS}/{STEPS}") == 1
