"""nnU-Net: the encoder in a Primus network of `dynamic_network_architectures`, through an adapter.

nnU-Net's own Primus has gated MLPs with a norm inside and rotary positions; the paper's ViT has neither. So these
weights do not fit any network that an nnU-Net plan builds. `primus` builds Primus with a transformer of plain ViT
blocks (`swiglu_mlp`, `scale_mlp` and `use_rot_pos_emb` off), which a trainer must return from
`build_network_architecture`; in it, every encoder tensor fits, and the features are equal. Primus has no bias on keys:
ours is dropped, which does not change the softmax.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from maesil.encoder.card import Transfer, save_weights
from maesil.errors import CheckpointError
from maesil.export.monai import vit_weights
from maesil.extras import optional
from maesil.models.backbone import Backbone, resized_positions
from maesil.models.transfer import TransferReport, transfer
from maesil.shapes import Shape3

WEIGHTS = "primus_encoder.safetensors"

USAGE = """
from pathlib import Path
from maesil.export.nnunet import primus

network, report = primus(Path("."), classes=3)      # return `network` from build_network_architecture of a trainer
print(report)                                       # which tensors were loaded; the decoder is new
"""

_LAYERS = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.out_proj": "attn.proj",
    "mlp.linear1": "mlp.fc1",
    "mlp.linear2": "mlp.fc2",
}


def write_nnunet(backbone: Backbone, card: Transfer, out: Path) -> str:
    """Writes primus_encoder.safetensors; returns the usage example for the model card."""
    save_weights(primus_weights(backbone), out / WEIGHTS)
    notes = {"fits": "Primus with plain ViT blocks, as maesil.export.nnunet.primus builds it; no nnU-Net plan as it is"}
    replace(card, notes=notes, weights={WEIGHTS: ""}).write(out)
    return USAGE


def primus_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The encoder's weights with Primus's names: `down_projection.proj` and `eva`."""
    weights: dict[str, Tensor] = {}
    for name, tensor in vit_weights(backbone).items():
        weights |= _renamed(name, tensor)
    return weights


def primus(folder: Path, classes: int, input_shape: Shape3 | None = None) -> tuple[nn.Module, TransferReport]:
    """Builds a Primus segmentation network with the exported encoder.

    Args:
        folder: A folder that `maesil export --to nnunet` wrote.
        classes: Number of output channels, including the background.
        input_shape: Size of nnU-Net's patch in voxels, multiples of the encoder's patch; None: the pre-trained
            superpatch.

    Returns:
        The network, and a report of the tensors that were loaded: all except the decoder's.

    Raises:
        CheckpointError: The weights do not fit.
        MissingExtraError: `dynamic_network_architectures` is not installed.
    """
    card = Transfer.read(folder)
    config = card.config()
    shape = input_shape or config.superpatch
    architectures = optional("dynamic_network_architectures.architectures.primus", "nnunet")
    blocks = optional("dynamic_network_architectures.building_blocks.eva", "nnunet")
    grid = tuple(size // edge for size, edge in zip(shape, config.patch, strict=True))
    sizes = {"embed_dim": config.encoder_width, "use_rot_pos_emb": False, "mlp_ratio": config.mlp_ratio}
    network: nn.Module = architectures.Primus(
        1,
        patch_embed_size=config.patch,
        num_classes=classes,
        eva_depth=config.encoder_depth,
        eva_numheads=config.encoder_heads,
        input_shape=shape,
        **sizes,
    )
    network.eva = blocks.Eva(
        depth=config.encoder_depth,
        num_heads=config.encoder_heads,
        ref_feat_shape=grid,
        swiglu_mlp=False,
        scale_mlp=False,
        **sizes,
    )

    def onto_grid(given: Tensor, wanted: Tensor) -> Tensor:
        return resized_positions(given[0], config.grid.shape, (grid[0], grid[1], grid[2])).unsqueeze(0)

    weights = load_file(folder / WEIGHTS)
    report = transfer(network, weights, resize={"eva.pos_embed": onto_grid}, partial=True, where=folder / WEIGHTS)
    strangers = [name for name in report.random if not name.startswith(("up_projection.", "mask_token"))]
    if strangers or report.dropped:
        raise CheckpointError(f"the encoder does not fit this Primus: {report}", where=folder / WEIGHTS)
    return network, report


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name.startswith("patch_embedding.patch_embeddings."):
        return {name.replace("patch_embedding.patch_embeddings", "down_projection.proj"): tensor}
    if name == "patch_embedding.position_embeddings":
        return {"eva.pos_embed": tensor}
    if not name.startswith("blocks."):
        return {f"eva.{name}": tensor}
    blocks, number, layer = name.split(".", 2)
    part, kind = layer.rsplit(".", 1)
    prefix = f"eva.{blocks}.{number}"
    if part == "attn.qkv":
        query, key, value = tensor.chunk(3)
        split = {f"{prefix}.attn.q_proj.{kind}": query, f"{prefix}.attn.v_proj.{kind}": value}
        return split if kind == "bias" else {**split, f"{prefix}.attn.k_proj.{kind}": key}
    return {f"{prefix}.{_LAYERS[part]}.{kind}": tensor} if part in _LAYERS else {}
