"""Segmentation on a pre-trained encoder: a UNETR-style decoder built from MONAI's blocks.

UNETR is designed for patches of 16; here the number of stages follows from the patch size, so that patches of 8, or
4x8x8, get exactly the stages that lead from their grid to voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float, Int
from monai.losses.dice import DiceCELoss
from monai.networks.blocks.dynunet_block import UnetOutBlock
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.models.backbone import Backbone
from maesil.shapes import Shape3
from maesil.tasks.segmentation.config import SegmentationConfig

Strides = tuple[Shape3, ...]
LEVELS = 5
"""Number of resolutions of the U-Net of mode "unet", where a superpatch has so many."""


def stage_strides(patch: Shape3) -> Strides:
    """Upsampling factors of each stage along (S, P, L), coarsest first; their product is the patch.

    Raises:
        ConfigError: An edge of the patch is not a power of two.
    """
    if any(edge & (edge - 1) for edge in patch) or max(patch) == 1:
        raise ConfigError(f"the decoder doubles resolution at each stage, but the patch {patch} is not a power of two")
    stages = max(patch).bit_length() - 1
    doublings = [edge.bit_length() - 1 for edge in patch]
    return tuple(
        (_stride(doublings[0], stage), _stride(doublings[1], stage), _stride(doublings[2], stage))
        for stage in reversed(range(stages))
    )


def _stride(doublings: int, stage: int) -> int:
    """Doublings go to the finer stages first: an axis with few of them keeps its resolution in the coarse stages."""
    return 2 if stage < doublings else 1


@final
class Segmenter(nn.Module):
    """Maps a superpatch to a score per class and voxel.

    Args:
        backbone: The encoder; this network takes over its weights.
        classes: Number of structures, not counting the background.
        config: Decoder and mode.
    """

    def __init__(self, backbone: Backbone, classes: int, config: SegmentationConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes
        self.config = config
        outputs = classes + 1
        self.decoder: nn.Module
        self.depths: tuple[int, ...]
        if config.mode == "linear":
            self.decoder, self.depths = nn.Conv3d(backbone.width, outputs, 1), (backbone.depth,)
        elif config.mode == "unet":
            self.decoder, self.depths = PeerUNet(backbone.config.superpatch, config, outputs), ()
        else:
            decoder = UNETRDecoder(backbone, config, outputs)
            self.decoder, self.depths = decoder, decoder.depths
        self.norms = nn.ModuleList(feature_norm(config, backbone.width) for _ in self.depths)
        self.criterion = DiceCELoss(
            include_background=False, to_onehot_y=True, softmax=True, lambda_dice=config.dice_weight, batch=True
        )
        if config.mode != "full":
            backbone.requires_grad_(False)

    def forward(self, volume: Float[Tensor, "b 1 d h w"]) -> Float[Tensor, "b classes d h w"]:
        """Returns logits, the background first.

        Args:
            volume: Superpatches in window units [0, 1], orientation SPL.
        """
        maps = self.backbone.features(volume, self.depths) if self.depths else []
        maps = [norm(one) for norm, one in zip(self.norms, maps, strict=True)]
        logits = self.decoder(maps[0]) if self.config.mode == "linear" else self.decoder(volume, maps)
        return logits if logits.shape[2:] == volume.shape[2:] else upsampled(logits, volume.shape[2:])

    def loss(
        self,
        volume: Float[Tensor, "b 1 d h w"],
        labels: Int[Tensor, "b 1 d h w"],
        marked: Sequence[Sequence[bool]] | None = None,
    ) -> Float[Tensor, ""]:
        """Dice loss of the structures, over the batch, plus cross-entropy of all voxels.

        Args:
            volume: Superpatches in window units [0, 1], orientation SPL.
            labels: Class of each voxel.
            marked: Whether each superpatch was annotated for each class; None: it was.
        """
        logits = self(volume).float()
        loss: Tensor = self.criterion(logits if marked is None else marginal_logits(logits, marked), labels)
        return loss

    def train(self, mode: bool = True) -> Segmenter:
        """Sets the training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.config.mode != "full":
            self.backbone.eval()
        return self

    def parameter_scales(self) -> dict[str, float]:
        """Parameter name to its share of the learning rate, smaller for lower encoder blocks.

        Raises:
            ConfigError: `layer_decay` is None; a network does not know where its weights come from.
        """
        if self.config.layer_decay is None:
            raise ConfigError("layer_decay is None", fix="0.75 for a pre-trained encoder, 1 for random weights")
        return layer_scales(self, self.backbone.depth, self.config.layer_decay)


def marginal_logits(
    logits: Float[Tensor, "b classes d h w"], marked: Sequence[Sequence[bool]]
) -> Float[Tensor, "b classes d h w"]:
    """Logits in which the background has the probability of unmarked classes, too, and these have none.

    A voxel labelled as background may belong to a class that was not marked in its scan. The loss of such logits is the
    marginal loss for partially labelled data (Shi et al. 2021).

    Args:
        logits: Logits, the background first.
        marked: Whether each superpatch was annotated for each class.
    """
    if all(map(all, marked)):
        return logits
    unmarked = ~torch.tensor(marked, device=logits.device)[:, :, None, None, None]
    least = torch.finfo(logits.dtype).min / 2
    background, structures = logits[:, :1], logits[:, 1:]
    either = torch.cat([background, structures.where(unmarked, least)], dim=1).logsumexp(dim=1, keepdim=True)
    return torch.cat([either, structures.where(~unmarked, least)], dim=1)


def feature_norm(config: SegmentationConfig, width: int) -> nn.Module:
    """Makes the normalisation of one feature map of `width` channels."""
    return nn.BatchNorm3d(width, affine=False) if config.feature_norm == "batch" else nn.Identity()


def layer_scales(network: nn.Module, depth: int, decay: float) -> dict[str, float]:
    """Parameter name to its share of the learning rate in a network on a `backbone`, smaller for lower blocks.

    Args:
        network: Encoder and head.
        depth: Number of encoder blocks.
        decay: Ratio of a block's learning rate to that of the block above.
    """
    return {name: decay ** (depth + 1 - layer_of(name, depth)) for name, _ in network.named_parameters()}


def layer_of(name: str, depth: int) -> int:
    """Layer of a parameter: 0 for the embedding, 1 to `depth` for the blocks, `depth` + 1 for everything after."""
    place = name.removeprefix("backbone.encoder.")
    if place == name or place.startswith("norm."):
        return depth + 1
    return int(place.split(".")[1]) + 1 if place.startswith("blocks.") else 0


def upsampled(logits: Float[Tensor, "b classes ..."], size: Sequence[int]) -> Float[Tensor, "b classes d h w"]:
    """Logits on a finer grid of the same box."""
    return F.interpolate(logits.float(), size=tuple(size), mode="trilinear", align_corners=False)


@final
class PeerUNet(nn.Module):
    """MONAI's UNet on voxels, at the resolution of the other decoders, with residual units of two convolutions.

    Args:
        superpatch: Voxels of a superpatch.
        config: Channels of the finest level, doubled at each coarser one; and its resolution.
        outputs: Number of output channels.
    """

    def __init__(self, superpatch: Shape3, config: SegmentationConfig, outputs: int) -> None:
        super().__init__()
        self.shrink = 2 if config.resolution == "half" else 1
        levels = levels_of(superpatch, self.shrink)
        channels = [config.features * 2**level for level in range(levels)]
        # MONAI's first layer is strided; one more, without a stride, keeps the resolution of the voxels.
        strides = [1] + [2] * (levels - 1)
        self.network = UNet(3, 1, outputs, [config.features, *channels], strides, num_res_units=2, norm="instance")

    def forward(self, volume: Tensor, maps: list[Tensor]) -> Tensor:
        """Returns logits at the volume's resolution, or at half of it; there are no feature maps."""
        logits: Tensor = self.network(F.avg_pool3d(volume, self.shrink))
        return logits


def levels_of(superpatch: Shape3, shrink: int) -> int:
    """Number of levels of a U-Net whose coarsest has at least 4^3 voxels, as in nnU-Net; `LEVELS` at most.

    With 2^3, gradients of convolutions in bf16 on a CPU sometimes were not finite (torch 2.13).

    Raises:
        ConfigError: A superpatch cannot be halved, once more than for half resolution.
    """
    fit = [
        levels
        for levels in range(2, LEVELS + 1)
        if all(edge % (scale := shrink * 2 ** (levels - 1)) == 0 and edge >= 4 * scale for edge in superpatch)
    ]
    if not fit:
        shape = "x".join(map(str, superpatch))
        multiple = 2 * shrink
        what = f"edges of a superpatch of {shape} are not multiples of {multiple} from {4 * multiple} on, for a U-Net"
        raise ConfigError(what, fix="--model.mode full" if shrink == 1 else "--model.resolution full, or another mode")
    return fit[-1]


@final
class UNETRDecoder(nn.Module):
    """Upsamples feature maps from several depths to voxels, stage by stage, with the image itself as the last skip.

    Args:
        backbone: The encoder that computes the features.
        config: Channels, and the finest resolution.
        outputs: Number of output channels.
    """

    def __init__(self, backbone: Backbone, config: SegmentationConfig, outputs: int) -> None:
        super().__init__()
        strides, features = stage_strides(backbone.patch), config.features
        self.shrink = (1, 1, 1)
        if config.resolution == "half":
            if len(strides) < 2:
                raise ConfigError("a patch of 2 has no stage at half resolution", fix="--model.resolution full")
            strides, self.shrink = strides[:-1], strides[-1]
        stages = len(strides)
        width = backbone.width
        self.depths = tuple(max(1, round(backbone.depth * (n + 1) / stages)) for n in range(stages))
        self.image = UnetrBasicBlock(3, 1, features, 3, 1, "instance", res_block=True)
        # Skips: the earlier a feature map, the finer the stage it joins and the more it is upsampled.
        self.skips = nn.ModuleList(
            Enlarge(width, features * 2**stage, strides[: stages - stage]) for stage in range(1, stages)
        )
        channels = [features * 2**stage for stage in range(stages)]
        incoming = [*channels[1:], width]
        self.ups = nn.ModuleList(
            UnetrUpBlock(3, incoming[s], channels[s], 3, strides[stages - 1 - s], "instance", res_block=True)
            for s in range(stages)
        )
        self.out = UnetOutBlock(3, features, outputs)

    def forward(self, volume: Tensor, maps: list[Tensor]) -> Tensor:
        """Returns logits at the volume's resolution, or at half of it.

        Args:
            volume: Superpatches (b, 1, d, h, w).
            maps: Feature maps (b, e, gd, gh, gw) from `depths`.
        """
        skips = [self.image(F.avg_pool3d(volume, self.shrink))] + [
            skip(one) for skip, one in zip(self.skips, maps[:-1], strict=True)
        ]
        tokens = maps[-1]
        for up, skip in reversed(list(zip(self.ups, skips, strict=True))):
            tokens = up(tokens, skip)
        logits: Tensor = self.out(tokens)
        return logits


@final
class Enlarge(nn.Module):
    """Upsamples a feature map like UNETR's projection block, with a stride per axis and step.

    Args:
        width: Number of input channels.
        channels: Number of output channels.
        strides: Strides of each step.
    """

    def __init__(self, width: int, channels: int, strides: Strides) -> None:
        super().__init__()
        self.steps = nn.Sequential(nn.ConvTranspose3d(width, channels, strides[0], strides[0]))
        for stride in strides[1:]:
            self.steps.append(nn.ConvTranspose3d(channels, channels, stride, stride))
            self.steps.append(UnetrBasicBlock(3, channels, channels, 3, 1, "instance", res_block=True))

    def forward(self, feature_map: Tensor) -> Tensor:
        """Maps (b, width, ...) to (b, channels, ...)."""
        enlarged: Tensor = self.steps(feature_map)
        return enlarged
