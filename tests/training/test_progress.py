"""What a person sees of a training where there is no terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from maesil import pipeline
from maesil.config import RunConfig
from maesil.training.logs import curve


def test_live_progress__a_validated_step_shows_its_own_score(tiny_config: RunConfig, tmp_path: Path) -> None:
    config = replace(tiny_config, monitor=replace(tiny_config.monitor, log_every=1))
    shown = io.StringIO()
    pipeline.pretrain(config, tmp_path / "run", console=Console(file=shown, width=200))
    told = dict(re.findall(r"step (\d+)/12 .* held-out (-?[\d.]+) dB", shown.getvalue()))
    steps, scores = curve(tmp_path / "run" / "logs" / "metrics.csv", "val_psnr_masked")
    assert steps == [4, 8, 12]
    assert [told[str(step)] for step in steps] == [f"{score:.2f}" for score in scores]
    assert shown.getvalue().count("step ") == 12
