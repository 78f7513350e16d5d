"""What this machine has that decides whether maesil runs, and how fast."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

import psutil
import torch

import maesil
from maesil.cores import available_cores
from maesil.ct.sample import has_sample
from maesil.errors import WeightsError
from maesil.extras import installing
from maesil.memory import GIB
from maesil.metrics import load_lpips
from maesil.metrics.lpips import Net
from maesil.training.devices import cpu_multiplies_bf16

PACKAGES = ("torch", "pytorch-lightning", "numpy", "tensorstore", "dask", "nibabel", "SimpleITK", "pydicom", "monai")


def examine(*, fetch_lpips: Net | None = None) -> dict[str, str]:
    """Findings as a map from name to value, in the order that a user would ask for them.

    Args:
        fetch_lpips: Network whose LPIPS weights are fetched first if they are missing.

    Raises:
        WeightsError: The weights cannot be fetched, or are not the published ones.
    """
    if fetch_lpips is not None:
        load_lpips(fetch_lpips, fetch=True)
    return {
        "maesil": maesil.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **{name: _version(name) for name in PACKAGES},
        "CPU cores": str(available_cores()),
        "CPU bf16": "native" if cpu_multiplies_bf16() else "emulated: training on the CPU uses fp32",
        "memory": _memory(),
        "GPU": _gpus(),
        "compressed DICOM": _compressed_dicom(),
        "LPIPS weights": _lpips(),
        "sample CT": "in the cache" if has_sample() else "not fetched yet: `maesil demo` fetches it",
    }


def _memory() -> str:
    memory = psutil.virtual_memory()
    return f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"


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


def _compressed_dicom() -> str:
    absent = [name for name in ("pylibjpeg", "libjpeg", "openjpeg") if find_spec(name) is None]
    return f"to read it, {installing('dicom')}" if absent else "readable (JPEG, JPEG-LS, JPEG 2000)"


def _lpips() -> str:
    found, absent = [], []
    for net in ("alex", "squeeze"):  # the protocol's own network first: its error is the relevant one
        try:
            load_lpips(net)
            found.append(net)
        except WeightsError as error:
            absent.append(error.fix or error.what)
    return f"verified: {', '.join(found)}" if found else f"absent, so tables leave LPIPS out; {absent[0]}"
