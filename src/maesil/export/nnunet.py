"""nnU-Net 2.8: trainers, plans and weights in one folder, for a Primus network with our encoder.

nnU-Net's own Primus has gated MLPs with a norm inside and rotary positions, as our encoders with EVA blocks have
(`--model.encoder-block eva`): these fit as they stand. If they also have one of the four sizes of nnU-Net's own Primus
trainers, as the preset `primus` has, `maesil_plans.py` writes a checkpoint for `nnUNetv2_train -pretrained_weights`,
which must have every tensor of the network.

The paper's ViT has none of these. The exported trainers then build Primus with plain ViT blocks (`swiglu_mlp`,
`scale_mlp` and `use_rot_pos_emb` off): in it, every encoder tensor fits, and the features are equal. Primus has no bias
on keys: ours is dropped, which does not change the softmax.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from maesil.encoder.card import Transfer, save_weights
from maesil.errors import CheckpointError
from maesil.export.monai import embedding_weights
from maesil.export.nnunet_folder import maesil_network
from maesil.extras import optional
from maesil.files import quoted
from maesil.models.backbone import Backbone
from maesil.models.eva import EvaBlock
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

OWN_LINE = """\
# nnU-Net's own trainer, from the checkpoint that maesil_plans.py writes
nnUNetv2_train $ID 3d_fullres 0 -p nnUNetPlansMaesil -tr {trainer} \\
  -pretrained_weights $nnUNet_preprocessed/DATASET/{file}
"""
"""Line for an encoder that fits one of nnU-Net's own networks."""

KINDS = ("weight", "bias")
EVA_NAMES = {
    "attention.query": "attn.q_proj",
    "attention.key": "attn.k_proj",
    "attention.value": "attn.v_proj",
    "attention.norm": "attn.norm",
    "attention.out": "attn.proj",
    "mlp.gate": "mlp.fc1_g",
    "mlp.hidden": "mlp.fc1_x",
    "mlp.out": "mlp.fc2",
}
"""Names of an EVA block's layers here, and in Primus; layers that are missing have the same."""
SCALES = {"scale1": "gamma_1", "scale2": "gamma_2"}
PLAIN_NAMES = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.out": "attn.proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
"""Names of a ViT block's layers here, and in Primus."""


def write_nnunet(backbone: Backbone, card: Transfer, out: Path) -> str:
    """Writes the weights, trainers and plans for nnU-Net 2.8; returns the usage example for the model card."""
    save_weights(primus_weights(backbone), out / WEIGHTS)
    for file in FILES:
        shutil.copyfile(Path(__file__).parent / "nnunet_folder" / file, out / file)
    trainer = maesil_network.own_trainer(card.model)
    fits = f"nnU-Net's own {trainer}, and " if trainer else ""
    blocks = "EVA" if backbone.config.encoder_block == "eva" else "plain ViT"
    notes = {"fits": f"{fits}Primus with {blocks} blocks, as maesil_network.py builds it"}
    replace(card, notes=notes, weights={WEIGHTS: ""}).write(out)
    return USAGE


def lines_for(folder: Path) -> str:
    """The lines that train and predict with nnU-Net, for an exported folder."""
    lines = LINES.format(folder=quoted(folder.resolve()))
    trainer = maesil_network.own_trainer(Transfer.read(folder).model)
    return lines + (OWN_LINE.format(trainer=trainer, file=maesil_network.CHECKPOINT) if trainer else "")


def primus_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The encoder's weights with Primus's names: `down_projection.proj` and `eva`."""
    embedding = embedding_weights(backbone)
    weights = {
        "down_projection.proj.weight": embedding["patch_embedding.patch_embeddings.weight"],
        "down_projection.proj.bias": embedding["patch_embedding.patch_embeddings.bias"],
        "eva.pos_embed": embedding["patch_embedding.position_embeddings"],
        "eva.norm.weight": backbone.encoder.norm.weight,
        "eva.norm.bias": backbone.encoder.norm.bias,
    }
    for number, block in enumerate(backbone.encoder.blocks):
        renamed = _eva_block(block) if isinstance(block, EvaBlock) else _plain_block(block)
        weights |= {f"eva.blocks.{number}.{name}": tensor for name, tensor in renamed.items()}
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


def _eva_block(block: nn.Module) -> dict[str, Tensor]:
    """A block's weights, with the names of Primus's own blocks."""
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in EVA_NAMES.items() for kind in KINDS}
    return {names.get(name, SCALES.get(name, name)): tensor for name, tensor in block.state_dict().items()}


def _plain_block(block: nn.Module) -> dict[str, Tensor]:
    """A ViT block's weights, with the names of Primus's blocks; without the bias on keys."""
    state = block.state_dict()
    weights = {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for ours, theirs in PLAIN_NAMES.items() for kind in KINDS}
    for kind in KINDS:
        query, key, value = state[f"attention.qkv.{kind}"].chunk(3)
        weights |= {f"attn.q_proj.{kind}": query, f"attn.v_proj.{kind}": value}
        if kind == "weight":
            weights["attn.k_proj.weight"] = key
    return weights
