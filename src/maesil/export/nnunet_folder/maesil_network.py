"""A Primus network with the exported encoder; needs torch, safetensors and dynamic_network_architectures, not maesil.

Primus has gated MLPs with a norm inside and rotary positions. An encoder with such blocks fits it as it is; for one
that is a plain ViT, it is built without them. Pre-training spreads the scales of channels, so a batch norm without
parameters stands before the decoder, as in linear probes of masked autoencoders (He et al. 2022, appendix A.1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTS = "primus_encoder.safetensors"
CHECKPOINT = "maesil_pretrained.pth"
"""Name of the checkpoint that `maesil_plans.py` writes for nnU-Net's own trainers."""
OWN = {(396, 12, 6): "S", (792, 12, 12): "B", (864, 16, 12): "M", (1056, 24, 16): "L"}
"""Letters of nnU-Net's own Primus trainers, by width, depth and heads."""
OWN_RATIO, OWN_PATCH = 8 / 3, [8, 8, 8]
OWN_OPTIONS: dict[str, Any] = {"drop_path_rate": 0.2, "scale_attn_inner": True, "init_values": 0.1}
"""Options of Primus in nnU-Net's own trainers."""
NEW = ("up_projection.", "mask_token")
"""Names of tensors that an encoder does not have: those of the norm of its features and of Primus's decoder."""


def description(folder: Path) -> dict[str, Any]:
    """The contents of transfer.json."""
    values: dict[str, Any] = json.loads((folder / "transfer.json").read_text(encoding="utf-8"))
    return values


def is_eva(model: Mapping[str, Any]) -> bool:
    """Whether the encoder has the blocks of nnU-Net's Primus; earlier exports do not say, and have none."""
    return bool(model.get("encoder_block") == "eva")


def own_trainer(model: Mapping[str, Any]) -> str | None:
    """The name of nnU-Net's own trainer whose network has this encoder; None if there is none.

    Args:
        model: Sizes and options of the encoder, as in transfer.json.
    """
    letter = OWN.get((model["encoder_width"], model["encoder_depth"], model["encoder_heads"]))
    fits = is_eva(model) and list(model["patch"]) == OWN_PATCH and abs(model["mlp_ratio"] - OWN_RATIO) < 1e-6
    return f"nnUNet_Primus_{letter}_Trainer" if letter and fits else None


def build(folder: Path, classes: int, input_shape: Sequence[int]) -> nn.Module:
    """Primus with the encoder's sizes, a norm of its features and random weights.

    Args:
        folder: The exported folder.
        classes: Number of output channels.
        input_shape: Voxels of an input; multiples of the patch.
    """
    from dynamic_network_architectures.architectures.primus import Primus
    from dynamic_network_architectures.building_blocks.eva import Eva

    model = description(folder)["model"]
    patch, shape = tuple(model["patch"]), tuple(input_shape)
    if any(size % edge for size, edge in zip(shape, patch, strict=True)):
        raise ValueError(f"the patch size {shape} of the plans is not a multiple of the encoder's patch {patch}")
    sizes = {"embed_dim": model["encoder_width"], "mlp_ratio": model["mlp_ratio"]}
    sizes |= OWN_OPTIONS if is_eva(model) else {"use_rot_pos_emb": False}
    depth, heads = model["encoder_depth"], model["encoder_heads"]
    network: nn.Module = Primus(
        1, patch_embed_size=patch, num_classes=classes, eva_depth=depth, eva_numheads=heads, input_shape=shape, **sizes
    )
    if not is_eva(model):
        grid = _grid(shape, patch)
        network.eva = Eva(depth=depth, num_heads=heads, ref_feat_shape=grid, swiglu_mlp=False, scale_mlp=False, **sizes)
    decoder: Any = network.up_projection
    network.up_projection = nn.Sequential(nn.BatchNorm3d(model["encoder_width"], affine=False), decoder)
    return network


def load(network: nn.Module, folder: Path, input_shape: Sequence[int]) -> list[str]:
    """Copies the encoder's weights; positions are interpolated to another grid.

    Returns:
        Names of the network's tensors that stay random: those of the decoder.

    Raises:
        ValueError: The weights are those of another architecture.
    """
    from safetensors.torch import load_file

    model, weights = description(folder)["model"], load_file(folder / WEIGHTS)
    old, new = (_grid(shape, model["patch"]) for shape in (model["superpatch"], input_shape))
    weights["eva.pos_embed"] = resized(weights["eva.pos_embed"], old, new)
    wanted = network.state_dict()
    random = [name for name in wanted if name not in weights]
    misfits = [name for name in random if not name.startswith(NEW)]
    misfits += [name for name, tensor in weights.items() if name not in wanted or wanted[name].shape != tensor.shape]
    if misfits:
        what = f"{misfits[0]} does not fit, and {len(misfits) - 1} more tensors"
        raise ValueError(f"{folder / WEIGHTS} is for another architecture: {what}")
    network.load_state_dict(weights, strict=False)
    return random


def _grid(shape: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    return tuple(size // edge for size, edge in zip(shape, patch, strict=True))


def resized(positions: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Positions (1, n, e) of a grid, interpolated trilinearly to another one."""
    if list(old) == list(new):
        return positions
    stacked = positions[0].T.reshape(1, -1, *old)
    return torch.nn.functional.interpolate(stacked, size=tuple(new), mode="trilinear").flatten(2).transpose(1, 2)
