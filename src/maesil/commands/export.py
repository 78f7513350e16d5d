"""`maesil export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from maesil.commands.parsing import parse


@dataclass(frozen=True)
class Export:
    """Write a pre-trained encoder for another tool: weights, transfer.json, a model card with the code to load them.

    Targets:
      safetensors   for maesil.load and plain PyTorch
      huggingface   config.json and model.safetensors, as huggingface_hub pushes and loads them
      monai         for monai.networks.nets.ViT and UNETR, loaded with strict=True
      nnunet        for a Primus network of dynamic_network_architectures, through an adapter
      onnx          one graph for one superpatch size and any batch size
      torchscript   the same for libtorch

    Examples:
      maesil export runs/base --to monai --out base-monai
      maesil export runs/base --to huggingface --out base-hf
    """

    run: tyro.conf.Positional[Path]
    """The run or checkpoint folder, or an exported folder (safetensors, huggingface)."""
    to: Literal["safetensors", "huggingface", "monai", "nnunet", "onnx", "torchscript"]
    """The target to export for."""
    out: Path
    """The output folder: new, empty, or an earlier export."""
    checkpoint: Literal["last", "best"] = "last"
    """Which of the run's checkpoints to load."""


def main(words: Sequence[str]) -> int:
    """Writes the folder and prints its path."""
    call = parse(Export, "export", words)
    from maesil import pipeline

    print(pipeline.export(call.run, call.to, call.out, checkpoint=call.checkpoint))  # noqa: T201 (the result)
    return 0
