"""MONAI's `ViT` and `UNETR`: the same function of the same input, under other parameter names.

* Our input standardisation is folded into the patch embedding, so that MONAI's networks take window units [0, 1].
* Our linear embedding becomes a 3D convolution, our fixed positions a parameter; qkv has a bias.
* `UNETR` is built for patches of 16 and has 12 blocks. Patches of 8 become patches of 16 on a grid of half the spacing:
  on voxels that are each repeated 2x2x2, the features are identical. Blocks that our encoder lacks start as identities
  (zero weights in their last layers), spread evenly.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maesil.encoder.card import Transfer, save_weights
from maesil.errors import ConfigError
from maesil.models.backbone import Backbone
from maesil.models.transformer import Block

VIT, UNETR = "vit.safetensors", "unetr_vit.safetensors"
UNETR_PATCH, UNETR_DEPTH = 16, 12

USAGE = """
import json
from pathlib import Path

from monai.networks.nets import UNETR, ViT
from safetensors.torch import load_file

sizes = json.loads(Path("transfer.json").read_text())["notes"]
vit = ViT(**sizes["vit"])
vit.load_state_dict(load_file("vit.safetensors"))         # strict: every tensor must match
{unetr}
"""
UNETR_USAGE = """
unetr = UNETR(out_channels=2, **sizes["unetr"])           # give it voxels of 1 / {scale} of the spacing above
unetr.vit.load_state_dict(load_file("unetr_vit.safetensors"))
"""


def write_monai(backbone: Backbone, transfer: Transfer, out: Path) -> str:
    """Writes vit.safetensors and, if it fits, unetr_vit.safetensors; returns the usage example for the model card.

    Raises:
        ConfigError: The encoder has blocks that MONAI's networks do not have.
    """
    if backbone.config.encoder_block != "vit":
        raise ConfigError(
            f"MONAI's ViT and UNETR have no blocks of kind '{backbone.config.encoder_block}': the weights do not fit",
            fix="export to any other target; or pre-train with --model.encoder-block vit",
        )
    save_weights(vit_weights(backbone), out / VIT)
    notes: dict[str, Any] = {"vit": vit_settings(backbone)}
    usage = ""
    reason = unetr_misfit(backbone)
    if reason is None:
        save_weights(unetr_weights(backbone), out / UNETR)
        notes["unetr"] = unetr_settings(backbone)
        usage = UNETR_USAGE.format(scale=unetr_scale(backbone))
    else:
        notes["unetr_misfit"] = reason
    files = {VIT: ""} if reason else {VIT: "", UNETR: ""}
    replace(transfer, notes=notes, weights=files).write(out)
    return USAGE.format(unetr=usage.strip())


def vit_settings(backbone: Backbone) -> dict[str, Any]:
    """Arguments of `monai.networks.nets.ViT`."""
    config = backbone.config
    return {
        "in_channels": 1,
        "img_size": list(config.superpatch),
        "patch_size": list(config.patch),
        "hidden_size": config.encoder_width,
        "mlp_dim": int(config.encoder_width * config.mlp_ratio),
        "num_layers": config.encoder_depth,
        "num_heads": config.encoder_heads,
        "qkv_bias": True,
    }


def vit_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The encoder's weights with the names and shapes of `monai.networks.nets.ViT`."""
    weights = {
        **embedding_weights(backbone),
        "norm.weight": backbone.encoder.norm.weight,
        "norm.bias": backbone.encoder.norm.bias,
    }
    for number, block in enumerate(backbone.encoder.blocks):
        assert isinstance(block, Block)
        weights |= _block(number, block)
    return weights


def embedding_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The embedding of patches with MONAI's names, over window units, and the positional encodings."""
    return _embedding(backbone, _kernel(backbone))


def unetr_misfit(backbone: Backbone) -> str | None:
    """Why this encoder does not fit MONAI's UNETR; None if it fits."""
    patch = backbone.patch
    if len(set(patch)) > 1 or UNETR_PATCH % patch[0]:
        return f"MONAI's UNETR has patches of {UNETR_PATCH}^3, which do not divide into patches of {patch}"
    if backbone.depth > UNETR_DEPTH:
        return f"MONAI's UNETR has {UNETR_DEPTH} blocks, this encoder {backbone.depth}"
    return None


def unetr_scale(backbone: Backbone) -> int:
    """Number of UNETR voxels along an edge of one of ours."""
    return UNETR_PATCH // backbone.patch[0]


def unetr_settings(backbone: Backbone) -> dict[str, Any]:
    """Arguments of `monai.networks.nets.UNETR`, except `out_channels`."""
    scale = unetr_scale(backbone)
    return {
        "in_channels": 1,
        "img_size": [edge * scale for edge in backbone.config.superpatch],
        "hidden_size": backbone.width,
        "mlp_dim": int(backbone.width * backbone.config.mlp_ratio),
        "num_heads": backbone.config.encoder_heads,
        "qkv_bias": True,
    }


def unetr_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The encoder's weights with the names and shapes of `monai.networks.nets.UNETR.vit`."""
    scale = unetr_scale(backbone)
    kernel = _kernel(backbone)
    for axis in (2, 3, 4):  # each voxel's weight is shared by its repetitions
        kernel = kernel.repeat_interleave(scale, dim=axis)
    weights = {**vit_weights(backbone), **_embedding(backbone, kernel / scale**3)}
    ours = {name: tensor for name, tensor in weights.items() if not name.startswith("blocks.")}
    for place in range(UNETR_DEPTH):
        number, is_ours = divmod(place * backbone.depth, UNETR_DEPTH)
        block = backbone.encoder.blocks[number]
        assert isinstance(block, Block)
        starts = is_ours < backbone.depth
        ours |= _block(place, block) if starts else _identity(place, block)
    return ours


def _kernel(backbone: Backbone) -> Float[Tensor, "e 1 pd ph pw"]:
    """The embedding's weights as a convolution over window units."""
    weight = backbone.encoder.embed.weight.detach() / backbone.config.input_std
    return weight.view(backbone.width, 1, *backbone.patch)


def _embedding(backbone: Backbone, kernel: Float[Tensor, "e 1 pd ph pw"]) -> dict[str, Tensor]:
    shift = kernel.flatten(1).sum(dim=1) * backbone.config.input_mean
    return {
        "patch_embedding.patch_embeddings.weight": kernel,
        "patch_embedding.patch_embeddings.bias": backbone.encoder.embed.bias.detach() - shift,
        "patch_embedding.position_embeddings": backbone.positions(backbone.config.grid.shape).unsqueeze(0),
    }


def _block(number: int, block: Block) -> dict[str, Tensor]:
    first, last = block.mlp[0], block.mlp[2]
    parts = {
        "norm1": block.norm1,
        "attn.qkv": block.attention.qkv,
        "attn.out_proj": block.attention.out,
        "norm2": block.norm2,
        "mlp.linear1": first,
        "mlp.linear2": last,
    }
    weights = {
        f"blocks.{number}.{part}.{kind}": getattr(layer, kind)
        for part, layer in parts.items()
        for kind in ("weight", "bias")
    }
    width = block.norm1.normalized_shape[0]
    unused = f"blocks.{number}.norm_cross_attn"  # MONAI creates it in every block but does not use it
    return {**weights, f"{unused}.weight": torch.ones(width), f"{unused}.bias": torch.zeros(width)}


def _identity(number: int, like: Block) -> dict[str, Tensor]:
    """A block that changes nothing: its residual branches add zero."""
    silent = (f"blocks.{number}.attn.out_proj.", f"blocks.{number}.mlp.linear2.")
    return {
        name: torch.zeros_like(tensor) if name.startswith(silent) else tensor
        for name, tensor in _block(number, like).items()
    }
