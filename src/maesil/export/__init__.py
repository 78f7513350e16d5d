"""Exporting a pre-trained encoder to the formats of other tools: one module per target."""

from __future__ import annotations

from maesil.catalog import Catalog

TARGETS: Catalog[tuple[str, str]] = Catalog(
    "target",
    {
        "safetensors": ("for maesil.load and plain PyTorch", "plain:write_plain"),
        "huggingface": (
            "in the files that huggingface_hub pushes and loads",
            "huggingface:write_huggingface",
        ),
        "monai": ("for monai.networks.nets.ViT and UNETR, loaded with strict=True", "monai:write_monai"),
        "nnunet": ("for nnU-Net 2.8: trainers, plans and weights for a Primus network", "nnunet:write_nnunet"),
        "onnx": ("one graph for one superpatch size and any batch size", "graphs:write_onnx"),
        "torchscript": ("the same for libtorch", "graphs:write_torchscript"),
    },
)
"""Name to purpose and "module:function" of the writer, so that helps list the targets without importing torch."""
