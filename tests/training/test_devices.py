"""How many devices train together."""

from __future__ import annotations

import pytest
import torch

from maesil.errors import ConfigError
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


def test_counted__a_device_for_each_process_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert resolve(EfficiencyConfig(accelerator="cpu", nodes=3)).devices == 2


@pytest.mark.parametrize("config", [EfficiencyConfig(accelerator="cpu"), EfficiencyConfig(devices=1, nodes=3)])
def test_resolve__refuses_processes_that_would_train_alone(
    config: EfficiencyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "6")
    with pytest.raises(ConfigError, match="torchrun started 6 processes"):
        resolve(config)
