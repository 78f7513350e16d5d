"""Resolves "auto" on this machine: accelerator, number of devices, precision."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from maesil.errors import ConfigError
from maesil.training.config import EfficiencyConfig, Precision


def resolve(config: EfficiencyConfig) -> EfficiencyConfig:
    """Replaces every "auto" except `strategy` and `threads` by this machine's value.

    Raises:
        ConfigError: The configuration asks for a GPU that PyTorch does not see, or for FSDP2 on one device, or torchrun
            started a number of processes that differs from the number of devices.
    """
    gpus = torch.cuda.device_count()
    if config.accelerator == "gpu" and not gpus:
        raise ConfigError(
            "the run asks for a GPU, but PyTorch sees none",
            fix="see `maesil doctor`, or use --efficiency.accelerator cpu",
        )
    if config.strategy == "fsdp2" and world_size(config) == 1:
        raise ConfigError(
            "FSDP2 shards a network over several devices, but there is one",
            fix="--efficiency.devices N, or leave out --efficiency.strategy",
        )
    _check_launched(config)
    accelerator = ("gpu" if gpus else "cpu") if config.accelerator == "auto" else config.accelerator
    return replace(
        counted(config),
        accelerator=accelerator,
        precision=_precision(accelerator) if config.precision == "auto" else config.precision,
    )


def counted(config: EfficiencyConfig) -> EfficiencyConfig:
    """Replaces "auto" in `devices` by the number of devices on this machine."""
    if config.devices != "auto":
        return config
    gpus = 0 if config.accelerator == "cpu" else torch.cuda.device_count()
    return replace(config, devices=_launched_here() or max(1, gpus))


def _launched_here() -> int:
    """Number of processes that torchrun started on this node, one per device; 0 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "0"))


def _check_launched(config: EfficiencyConfig) -> None:
    """Refuses a wrong number of processes: each would train alone, and all would write into one run folder."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if _launched_here() and launched != world_size(config):
        raise ConfigError(
            f"torchrun started {launched} processes, but the run is set up for {world_size(config)} devices",
            fix="set --efficiency.nodes to --nnodes, and --efficiency.devices to --nproc-per-node or not at all",
        )


def world_size(config: EfficiencyConfig) -> int:
    """Number of devices over all nodes; "auto" is counted on this machine."""
    return int(counted(config).devices) * config.nodes


def _precision(accelerator: str) -> Precision:
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_multiplies_bf16() else "32-true"


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bf16 matrix instructions; emulated bf16 is slower than fp32."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private API, so it may disappear
    return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)
