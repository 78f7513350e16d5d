"""Graphs that run without this package: ONNX and TorchScript, for one superpatch size and any batch size."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from maesil.encoder.card import Transfer
from maesil.extras import optional
from maesil.models.backbone import Backbone

ONNX, TORCHSCRIPT = "encoder.onnx", "encoder.pt"

ONNX_USAGE = """
import numpy as np
import onnxruntime

encoder = onnxruntime.InferenceSession("encoder.onnx")
volume = np.zeros((1, 1, *{shape}), dtype=np.float32)     # window units [0, 1], axes S, P, L
features = encoder.run(None, {{"volume": volume}})[0]
"""
TORCHSCRIPT_USAGE = """
import torch

encoder = torch.jit.load("encoder.pt")
features = encoder(torch.zeros(1, 1, *{shape}))           # window units [0, 1], axes S, P, L
"""


def write_onnx(backbone: Backbone, transfer: Transfer, out: Path) -> str:
    """Writes encoder.onnx; returns the usage example for the model card."""
    optional("onnxscript", "onnx")
    example = torch.zeros(2, 1, *backbone.config.superpatch)
    with _quiet():
        torch.onnx.export(
            backbone,
            (example,),
            out / ONNX,
            input_names=["volume"],
            output_names=["features"],
            dynamic_shapes={"volume": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return ONNX_USAGE.format(shape=tuple(backbone.config.superpatch))


def write_torchscript(backbone: Backbone, transfer: Transfer, out: Path) -> str:
    """Writes encoder.pt; returns the usage example for the model card."""
    with _quiet(), torch.no_grad():
        traced = torch.jit.trace(backbone, torch.zeros(1, 1, *backbone.config.superpatch), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, out / TORCHSCRIPT)
    return TORCHSCRIPT_USAGE.format(shape=tuple(backbone.config.superpatch))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporters' deprecation warnings and progress, which do not concern a user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
