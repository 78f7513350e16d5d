"""What is on this machine that decides whether and how fast maesil runs."""

from __future__ import annotations

import platform
from importlib import metadata

import psutil
import torch

import maesil
from maesil.training.devices import available_cores, cpu_multiplies_bf16

PACKAGES = ("torch", "pytorch-lightning", "numpy", "zarr", "dask", "nibabel", "SimpleITK", "pydicom", "monai")
GIB = 2**30


def examine() -> dict[str, str]:
    """Findings in the order a person asks: name to value."""
    return {
        "maesil": maesil.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **{name: _version(name) for name in PACKAGES},
        "CPU cores": str(available_cores()),
        "CPU bf16": "native" if cpu_multiplies_bf16() else "emulated: training on the CPU uses fp32",
        "memory": f"{psutil.virtual_memory().available / GIB:.1f} of {psutil.virtual_memory().total / GIB:.1f} GiB free",
        "GPU": _gpus(),
        "compressed DICOM": _compressed_dicom(),
        "LPIPS weights": _lpips(),
        "sample CT": _sample(),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpus() -> str:
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    free = [torch.cuda.mem_get_info(index)[0] / GIB for index in range(len(names))]
    found = ", ".join(f"{name} ({gib:.0f} GiB free)" for name, gib in zip(names, free, strict=True))
    return found or "none: training runs on the CPU"
