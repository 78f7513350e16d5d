"""A Primus network with the exported encoder; needs torch, safetensors and dynamic_network_architectures, not maesil.

The encoder is a plain ViT, so Primus is built with plain blocks: no gated MLPs, no norm inside, no rotary positions.
Pre-training spreads the scales of channels, so a batch norm without parameters stands before the decoder, as in linear
probes of masked autoencoders (He et al. 2022, appendix A.1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTS = "primus_encoder.safetensors"
NEW = ("up_projection.", "mask_token")
"""Names of tensors that an encoder does not have: those of the norm of its features and of Primus's decoder."""


def description(folder: Path) -> dict[str, Any]:
    """The contents of transfer.json."""
    values: dict[str, Any] = json.loads((folder / "transfer.json").read_text(encoding="utf-8"))
    return values


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
    sizes = {"embed_dim": model["encoder_width"], "use_rot_pos_emb": False, "mlp_ratio": model["mlp_ratio"]}
    depth, heads = model["encoder_depth"], model["encoder_heads"]
    network: nn.Module = Primus(
        1, patch_embed_size=patch, num_classes=classes, eva_depth=depth, eva_numheads=heads, input_shape=shape, **sizes
    )
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
