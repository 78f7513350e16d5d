"""nnU-Net 2.8: trainers, plans and weights in one folder, for a Primus network with our encoder.

nnU-Net's own Primus has gated MLPs with a norm inside and rotary positions; the paper's ViT has neither. So these
weights do not fit any network that an nnU-Net plan builds, nor what `nnUNetv2_train -pretrained_weights` accepts, which
must have every tensor of the network. The trainers build Primus with plain ViT blocks (`swiglu_mlp`, `scale_mlp` and
`use_rot_pos_emb` off): in it, every encoder tensor fits, and the features are equal. Primus has no bias on keys: ours
is dropped, which does not change the softmax.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from maesil.encoder.card import Transfer, save_weights
from maesil.errors import CheckpointError
from maesil.export.monai import vit_weights
from maesil.export.nnunet_folder import maesil_network
from maesil.extras import optional
from maesil.files import quoted
from maesil.models.backbone import Backbone
from maesil.models.transfer import TransferReport
from maesil.shapes import Shape3

WEIGHTS = maesil_network.WEIGHTS
FILES = ("maesil_network.py", "maesil_trainer.py", "maesil_plans.py")
"""Files that run inside nnU-Net, without maesil."""

USAGE = """
from pathlib import Path
from maesil.export.nnunet import primus

network, report = primus(Path("."), classes=3)      # as the trainers in this folder build it
print(report)                                       # which tensors were loaded; the decoder is new
"""

LINES = """\
export nnUNet_extTrainer={folder}
nnUNetv2_plan_and_preprocess -d $ID --no_pp
python {folder}/maesil_plans.py $ID
nnUNetv2_preprocess -d $ID -plans_name nnUNetPlansMaesil -c 3d_fullres
nnUNetv2_train $ID 3d_fullres 0 -p nnUNetPlansMaesil -tr MaesilTrainer
nnUNetv2_train $ID 3d_fullres 0 -p nnUNetPlansMaesil -tr MaesilScratchTrainer  # the same from random weights
nnUNetv2_predict -d $ID -i IMAGES -o OUT -c 3d_fullres -f 0 -p nnUNetPlansMaesil -tr MaesilTrainer
"""
"""Lines to run where nnU-Net 2.8 is installed; ID is the number of the data set."""

_LAYERS = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.out_proj": "attn.proj",
    "mlp.linear1": "mlp.fc1",
    "mlp.linear2": "mlp.fc2",
}


def write_nnunet(backbone: Backbone, card: Transfer, out: Path) -> str:
    """Writes the weights, trainers and plans for nnU-Net 2.8; returns the usage example for the model card."""
    save_weights(primus_weights(backbone), out / WEIGHTS)
    for file in FILES:
        shutil.copyfile(Path(__file__).parent / "nnunet_folder" / file, out / file)
    notes = {"fits": "Primus with plain ViT blocks, as maesil_network.py builds it; no network of nnU-Net's own plans"}
    replace(card, notes=notes, weights={WEIGHTS: ""}).write(out)
    return USAGE


def lines_for(folder: Path) -> str:
    """The lines that train and predict with nnU-Net, for an exported folder."""
    return LINES.format(folder=quoted(folder.resolve()))


def primus_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The encoder's weights with Primus's names: `down_projection.proj` and `eva`."""
    weights: dict[str, Tensor] = {}
    for name, tensor in vit_weights(backbone).items():
        weights |= _renamed(name, tensor)
    return weights


def primus(folder: Path, classes: int, input_shape: Shape3 | None = None) -> tuple[nn.Module, TransferReport]:
    """Builds a Primus segmentation network with the exported encoder, as the exported trainer does.

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
    config = Transfer.read(folder).config()
    shape = input_shape or config.superpatch
    optional("dynamic_network_architectures.architectures.primus", "nnunet")
    try:
        network = maesil_network.build(folder, classes, shape)
        random = maesil_network.load(network, folder, shape)
    except ValueError as error:
        raise CheckpointError(str(error), where=folder) from error
    resized = () if shape == config.superpatch else ("eva.pos_embed",)
    loaded = tuple(name for name in network.state_dict() if name not in (*random, *resized))
    return network, TransferReport(loaded, resized, random=tuple(random))


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
