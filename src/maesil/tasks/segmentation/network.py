"""Segmentation on a pre-trained encoder: a UNETR-style decoder of MONAI's blocks.

UNETR is drawn for patches of 16; here the number of stages follows from the patch, so that patches of 8, or 4x8x8, have
the stages that lead from their grid to voxels and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Float, Int
from monai.losses.dice import DiceCELoss
from monai.networks.blocks.dynunet_block import UnetOutBlock
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from maesil.errors import ConfigError
from maesil.models.backbone import Backbone
from maesil.shapes import Shape3

Strides = tuple[Shape3, ...]


@dataclass(frozen=True)
class SegmentationConfig:
    """The network and what of it is trained.

    Args:
        mode: "full" trains everything; "frozen" the decoder on a fixed encoder; "linear" one linear map of the fixed
            last features, blown up to voxels: what the features hold as they are.
        features: Channels of the decoder at its finest stage; doubled at each coarser one.
        resolution: Voxels that the finest stage has per voxel of the scan along each axis: "half" costs a sixth of
            "full", and its scores are blown up to voxels.
        layer_decay: Learning rate of each encoder block, as a share of the block's above it ("full" only). None: 0.75
            for a pre-trained encoder, whose lower blocks need little change; 1 for random weights, which know nothing.
        foreground: Share of superpatches drawn around a labelled voxel, evenly over the classes.
        dice_weight: Of the Dice loss, beside 1 for cross-entropy.
    """

    mode: Literal["full", "frozen", "linear"] = "full"
    features: PositiveInt = 16
    resolution: Literal["full", "half"] = "full"
    layer_decay: PositiveFloat | None = None
    foreground: NonNegativeFloat = 0.67
    dice_weight: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        if (self.layer_decay or 0) > 1 or self.foreground > 1:
            raise ConfigError(
                f"layer_decay {self.layer_decay} and foreground {self.foreground} are shares", fix="give at most 1"
            )


def stage_strides(patch: Shape3) -> Strides:
    """What each stage enlarges along (S, P, L), coarsest first; their product is the patch.

    Raises:
        ConfigError: An edge of the patch is no power of two.
    """
    if any(edge & (edge - 1) for edge in patch) or max(patch) == 1:
        raise ConfigError(f"the decoder doubles resolution stage by stage; a patch of {patch} is no power of two")
    stages = max(patch).bit_length() - 1
    doublings = [edge.bit_length() - 1 for edge in patch]
    return tuple(
        (_stride(doublings[0], stage), _stride(doublings[1], stage), _stride(doublings[2], stage))
        for stage in reversed(range(stages))
    )


def _stride(doublings: int, stage: int) -> int:
    """Finer stages first: an axis of few doublings keeps its resolution in the coarse ones."""
    return 2 if stage < doublings else 1


@final
class Segmenter(nn.Module):
    """Superpatch to a score per class and voxel.

    Args:
        backbone: The encoder; its weights become this network's own.
        classes: Structures, the background not counted.
        config: Decoder and mode.
    """

    def __init__(self, backbone: Backbone, classes: int, config: SegmentationConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes
        self.config = config
        outputs = classes + 1
        linear = config.mode == "linear"
        self.decoder: nn.Module = (
            nn.Conv3d(backbone.width, outputs, 1) if linear else UNETRDecoder(backbone, config, outputs)
        )
        self.criterion = DiceCELoss(
            include_background=False, to_onehot_y=True, softmax=True, lambda_dice=config.dice_weight, batch=True
        )
        if config.mode != "full":
            backbone.requires_grad_(False)

    def forward(self, volume: Float[Tensor, "b 1 d h w"]) -> Float[Tensor, "b classes d h w"]:
        """Logits, the background first.

        Args:
            volume: In window units [0, 1], orientation SPL.
        """
        if isinstance(self.decoder, UNETRDecoder):
            logits = self.decoder(volume, self.backbone.features(volume, self.decoder.depths))
        else:
            logits = self.decoder(self.backbone(volume))
        return logits if logits.shape[2:] == volume.shape[2:] else blown_up(logits, volume.shape[2:])

    def loss(self, volume: Float[Tensor, "b 1 d h w"], labels: Int[Tensor, "b 1 d h w"]) -> Float[Tensor, ""]:
        """Dice of the structures, over the batch, and cross-entropy of all voxels."""
        loss: Tensor = self.criterion(self(volume).float(), labels)
        return loss

    def train(self, mode: bool = True) -> Segmenter:
        """A frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.config.mode != "full":
            self.backbone.eval()
        return self

    def parameter_scales(self) -> dict[str, float]:
        """Parameter name to its share of the learning rate: the deeper in the encoder, the smaller.

        Raises:
            ConfigError: The configuration leaves the decay open; a network does not know where its weights are from.
        """
        if self.config.layer_decay is None:
            raise ConfigError("layer_decay is None", fix="0.75 for a pre-trained encoder, 1 for random weights")
        return layer_scales(self, self.backbone.depth, self.config.layer_decay)


def layer_scales(network: nn.Module, depth: int, decay: float) -> dict[str, float]:
    """Parameter name to its share of the learning rate in a network on a `backbone`: the deeper, the smaller.

    Args:
        network: Encoder and head.
        depth: Blocks of the encoder.
        decay: A block's share of the rate of the block above it.
    """
    return {name: decay ** (depth + 1 - layer_of(name, depth)) for name, _ in network.named_parameters()}


def layer_of(name: str, depth: int) -> int:
    """Where a parameter lies: 0 embedding, 1 to `depth` the blocks, `depth` + 1 what comes after."""
    place = name.removeprefix("backbone.encoder.")
    if place == name or place.startswith("norm."):
        return depth + 1
    return int(place.split(".")[1]) + 1 if place.startswith("blocks.") else 0


def blown_up(logits: Float[Tensor, "b classes ..."], size: Sequence[int]) -> Float[Tensor, "b classes d h w"]:
    """Scores on a finer grid of the same box."""
    return F.interpolate(logits.float(), size=tuple(size), mode="trilinear", align_corners=False)


@final
class UNETRDecoder(nn.Module):
    """Feature maps of several depths, brought to voxels stage by stage, the image itself as the last skip.

    Args:
        backbone: Whose features come.
        config: Channels, and the finest resolution.
        outputs: Channels of the result.
    """

    def __init__(self, backbone: Backbone, config: SegmentationConfig, outputs: int) -> None:
        super().__init__()
        strides, features = stage_strides(backbone.patch), config.features
        self.shrink = (1, 1, 1)
        if config.resolution == "half":
            if len(strides) < 2:
                raise ConfigError("a patch of 2 leaves no stage at half resolution", fix="--model.resolution full")
            strides, self.shrink = strides[:-1], strides[-1]
        stages = len(strides)
        width = backbone.width
        self.depths = tuple(max(1, round(backbone.depth * (n + 1) / stages)) for n in range(stages))
        self.image = UnetrBasicBlock(3, 1, features, 3, 1, "instance", res_block=True)
        # Skips: the earlier a feature map, the finer the stage it joins and the more it is enlarged.
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
        """Logits of the volume's shape, or of half of it.

        Args:
            volume: (b, 1, d, h, w).
            maps: Feature maps (b, e, gd, gh, gw) of `depths`.
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
    """A feature map at a finer resolution, as UNETR's projecting block does it, with a stride per axis and step.

    Args:
        width: Channels that come.
        channels: Channels that go.
        strides: Of the steps.
    """

    def __init__(self, width: int, channels: int, strides: Strides) -> None:
        super().__init__()
        self.steps = nn.Sequential(nn.ConvTranspose3d(width, channels, strides[0], strides[0]))
        for stride in strides[1:]:
            self.steps.append(nn.ConvTranspose3d(channels, channels, stride, stride))
            self.steps.append(UnetrBasicBlock(3, channels, channels, 3, 1, "instance", res_block=True))

    def forward(self, feature_map: Tensor) -> Tensor:
        """(b, width, ...) to (b, channels, ...)."""
        enlarged: Tensor = self.steps(feature_map)
        return enlarged
