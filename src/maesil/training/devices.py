"""What "auto" means on this machine: accelerator, precision, threads."""

from __future__ import annotations

import os
from dataclasses import replace

import torch

from maesil.errors import ConfigError
from maesil.training.config import EfficiencyConfig, Precision


def resolve(config: EfficiencyConfig) -> EfficiencyConfig:
    """Replaces every "auto" by this machine's value.

    Raises:
        ConfigError: A GPU is asked for and none is there; a network is to be shared out to one device; torchrun started
            another number of processes than there are devices.
    """
    gpus = torch.cuda.device_count()
    if config.accelerator == "gpu" and not gpus:
        raise ConfigError("a GPU is asked for, and PyTorch sees none", fix="`maesil doctor` says what is there")
    if config.strategy == "fsdp2" and world_size(config) == 1:
        raise ConfigError(
            "FSDP2 shares a network out to several devices, and there is one",
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
    """The configuration with a number of devices per node: "auto" may mean another one on another machine."""
    if config.devices != "auto":
        return config
    gpus = 0 if config.accelerator == "cpu" else torch.cuda.device_count()
    return replace(config, devices=_launched_here() or max(1, gpus))


def _launched_here() -> int:
    """Processes that torchrun started on this node, one a device; 0 where this is no process of its."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "0"))


def _check_launched(config: EfficiencyConfig) -> None:
    """Processes that do not know of each other would each train alone, all into one run folder."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if _launched_here() and launched != world_size(config):
        raise ConfigError(
            f"torchrun started {launched} processes, and the run is for {world_size(config)} devices",
            fix="--efficiency.nodes as torchrun's --nnodes, and no --efficiency.devices, or as --nproc-per-node",
        )


def world_size(config: EfficiencyConfig) -> int:
    """Devices that train together, of all nodes; "auto" is counted on this machine."""
    return int(counted(config).devices) * config.nodes


def _precision(accelerator: str) -> Precision:
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_multiplies_bf16() else "32-true"


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU has bf16 matrix instructions; emulated bf16 is slower than fp32."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private, so they may go
    return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
