"""How many devices train together."""

from __future__ import annotations

import pytest
import torch

from maesil.training.config import EfficiencyConfig
from maesil.training.devices import counted, resolve, world_size


@pytest.mark.parametrize(
    ("config", "gpus", "devices", "world"),
    [
        (EfficiencyConfig(), 0, 1, 1),
        (EfficiencyConfig(), 8, 8, 8),
        (EfficiencyConfig(accelerator="cpu"), 8, 1, 1),
        (EfficiencyConfig(devices=2, nodes=3), 8, 2, 6),
    ],
)
def test_world_size__counts_devices_of_all_nodes(
    config: EfficiencyConfig, gpus: int, devices: int, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert counted(config).devices == devices
    assert world_size(config) == world
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert resolve(config).devices == devices
