"""The paper's network: a 3D masked autoencoder over superpatches (§III, Fig. 1).

`MaskedAutoencoder.loss` and `reconstruct` are the method: the encoder sees only visible patches; the decoder inserts
mask tokens, restores the order, and predicts every patch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, final

import torch
from jaxtyping import Bool, Float, Int
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from maesil.catalog import Catalog
from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.models.cell_fusion import CellFusion
from maesil.models.contract import LastStage, Latent, ModelConfig, Pretrainer, Reconstruction, Reconstructor
from maesil.models.cross_decoder import CrossDecoder
from maesil.models.eva import EvaBlock, Rotary, Rotation, check_heads
from maesil.models.fusion import Fusion, FusionConfig
from maesil.models.grouped_decoders import AxialDecoder, WindowDecoder
from maesil.models.initial import Start, initialize_network, inverse_layer
from maesil.models.masked_loss import check_ssim_fits, masked_loss, ssim_loss
from maesil.models.overlap import Overlap, check_edges
from maesil.models.transformer import (
    VIT_WAVELENGTHS,
    Attended,
    Block,
    PatchDecoder,
    Positions,
    gather_tokens,
    put_tokens,
)
from maesil.models.voxel_fusion import VoxelFusion, check_levels_fit
from maesil.shapes import Shape3

PATCH_VARIANCE_FLOOR = 1e-6
"""Number added to a patch's variance before the square root, in normalised units, since air has no variance."""
VISIBLE_HEAD_WEIGHT = 0.1
"""Weight of the visible head's error in the loss; the error of masked voxels has weight 1."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class MAEConfig(ModelConfig):
    """Sizes and options of the masked autoencoder.

    The defaults are the paper's; where it is silent, ViT-B's and those of MAE's decoder.

    Args:
        superpatch: Voxels of a superpatch along (S, P, L).
        patch: Voxels of a patch; 8^3 makes 16x16x16 = 4,096 tokens.
        encoder_width: Embedding dimension of the encoder (§III-A: 768).
        encoder_depth: Number of encoder blocks.
        encoder_heads: Number of encoder attention heads.
        decoder_width: Embedding dimension of the decoder.
        decoder_depth: Number of decoder blocks.
        decoder_heads: Number of decoder attention heads.
        mlp_ratio: Hidden over embedding width in the blocks' MLPs.
        encoder_block: Kind of encoder block. "vit": the paper's. "eva": that of nnU-Net's Primus, which then loads the
            encoder as it stands; it has rotary positions beside the encodings, gated MLPs and norms inside (see `eva`).
        positions: Kind of positional encodings: fixed sines and cosines, or learned ones that start from these.
        position_wavelengths: Shortest and longest wavelength of the encodings, in patches; the default is ViT's.
        start: Kind of initial weights. "xavier", or "local": queries equal keys, so that tokens first attend to near
            positions, and the embedding is a cosine transform of the patch, lowest frequencies first.
        ssim_weight: Weight of 1 - SSIM of the masked voxels, added to their squared error (in units of `input_std`
            squared). 0: squared error alone, the paper's, which favours blur. The fusion has its own weight.
        visible_weight: Weight of the visible patches in the loss; masked ones have weight 1. With 0, as in MAE, visible
            patches are not trained, and the model rebuilds them badly: the region `predicted` shows it.
        normalize_targets: Whether to predict each patch standardised by its mean and deviation.
        decoder: Kind of decoder. "self", the paper's: all tokens attend to all. "cross": rebuilt tokens attend only to
            the visible ones (see `cross_decoder`), which is far cheaper, and another objective. "axial": all tokens
            attend to their plane and to their column along S in turns. "windows": all tokens attend to local windows,
            shifted in every second block (see `grouped_decoders` for both).
        rebuilt_share: Share of the masked tokens that a training step rebuilds, drawn in every step; 1: all.
        head: Kind of head. "patch", the paper's: every token predicts its patch. "overlap": predictions reach half a
            patch over the faces between masked patches, and are blended there, which leaves no seams (see `overlap`).
        visible_head: Whether visible patches are rebuilt by a linear map of their own, from the encoder's embedding. It
            starts as the embedding's inverse and follows it in training; the network gets no gradient from it.
        input_mean: Mean of the input in window units; subtracted before the network.
        input_std: Standard deviation of the input in window units; the network works in its multiples.
        fusion: Fusion of the reconstruction with a kriged fill, trained at the end of the run; off by default.
    """

    name: Literal["maesil"] = "maesil"
    superpatch: Shape3 = (128, 128, 128)
    patch: Shape3 = (8, 8, 8)
    encoder_width: PositiveInt = 768
    encoder_depth: PositiveInt = 12
    encoder_heads: PositiveInt = 12
    decoder_width: PositiveInt = 512
    decoder_depth: PositiveInt = 8
    decoder_heads: PositiveInt = 16
    mlp_ratio: float = 4.0
    encoder_block: Literal["vit", "eva"] = "vit"
    positions: Literal["sincos", "learned"] = "sincos"
    position_wavelengths: tuple[PositiveFloat, PositiveFloat] = VIT_WAVELENGTHS
    start: Start = "xavier"
    ssim_weight: NonNegativeFloat = 0.0
    visible_weight: NonNegativeFloat = 0.0
    normalize_targets: bool = False
    decoder: str = "self"
    rebuilt_share: PositiveFloat = 1.0
    head: Literal["patch", "overlap"] = "patch"
    visible_head: bool = False
    input_mean: float = 0.3
    input_std: float = 0.25
    fusion: FusionConfig = dataclasses.field(default_factory=FusionConfig)

    def __post_init__(self) -> None:
        PatchGrid(self.superpatch, self.patch)
        if self.encoder_block == "eva":
            check_heads(self.encoder_width, self.encoder_heads)
        # An unknown name raises, and the nearest one is suggested.
        DECODERS[self.decoder].check(self.decoder_depth, self.grid)
        if self.input_std <= 0:
            raise ConfigError(f"input_std must be positive, not {self.input_std}")
        if self.rebuilt_share > 1:
            raise ConfigError(
                f"rebuilt_share is {self.rebuilt_share}", fix="give a share of the masked tokens in (0, 1]"
            )
        if self.rebuilt_share < 1 and self.visible_weight:
            raise ConfigError(
                "visible_weight asks for every token, rebuilt_share for some", fix="leave one of them at its default"
            )
        if self.visible_weight and self.visible_head:
            raise ConfigError(
                "visible_weight trains the decoder on visible patches, which visible_head rebuilds without it",
                fix="leave one of them at its default",
            )
        check_ssim_fits(self.superpatch, self.fusion.ssim_weight, "--model.fusion.ssim-weight")
        check_levels_fit(self.superpatch, self.fusion)
        self._check_ssim()
        if self.head == "overlap":
            self._check_overlap()

    def _check_ssim(self) -> None:
        check_ssim_fits(self.superpatch, self.ssim_weight, "--model.ssim-weight")
        if self.ssim_weight and (self.rebuilt_share < 1 or self.normalize_targets or self.visible_weight):
            raise ConfigError(
                "ssim_weight needs every masked voxel in window units, and no others: it does not work with "
                "rebuilt_share, normalize_targets or visible_weight",
                fix="--model.ssim-weight 0, or leave the other at its default",
            )

    def _check_overlap(self) -> None:
        check_edges(self.patch)
        if self.rebuilt_share < 1:
            raise ConfigError(
                f"overlapping predictions need their neighbours', and rebuilt_share is {self.rebuilt_share}",
                fix="--model.rebuilt-share 1, or --model.head patch",
            )
        if self.normalize_targets:
            raise ConfigError(
                "overlapping predictions have one scale, and normalize_targets gives every patch its own",
                fix="leave one of them at its default",
            )

    def make_positions(self, width: int) -> Positions:
        """Positional encodings of the grid at a width."""
        learned = self.positions == "learned"
        return Positions(self.grid.shape, width, wavelengths=self.position_wavelengths, learned=learned)

    def rebuilt_count(self, visible: int) -> int:
        """Number of masked tokens that a training step rebuilds, at least one."""
        return max(1, round(self.rebuilt_share * (self.grid.tokens - visible)))

    def describe(self) -> dict[str, str]:
        """Descriptions of encoder and decoder."""
        kinds = {"vit": "blocks", "eva": "EVA blocks"}
        kind = "" if self.decoder == "self" else f", kind '{self.decoder}'"
        parts = {
            "encoder": f"{self.encoder_depth} {kinds[self.encoder_block]}, {self.encoder_width} wide",
            "decoder": f"{self.decoder_depth} blocks, {self.decoder_width} wide{kind}",
        }
        if not self.fusion.width:
            return parts
        channels, network = self.fusion.widths[0], self.fusion.network
        return {**parts, "fusion": f"U-Net of {channels} channels on {network}, over a kriged fill"}


ENCODER_BLOCKS: Mapping[str, type[Block] | type[EvaBlock]] = {"vit": Block, "eva": EvaBlock}


class Encoder(nn.Module):
    """A ViT over the visible patches of a superpatch (§III-B).

    `embed` is the paper's 3D convolution with stride = kernel = patch, which is a linear map of each patch. As a linear
    layer it runs after the visible patches are gathered, so masked patches cost nothing.

    Args:
        config: Sizes and options.
    """

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.embed = nn.Linear(config.grid.voxels_per_patch, width)
        self.positions = config.make_positions(width)
        heads, make = config.encoder_heads, ENCODER_BLOCKS[config.encoder_block]
        self.rotary = Rotary(config.grid.shape, width // heads) if make is EvaBlock else None
        self.blocks = nn.ModuleList(make(width, heads, config.mlp_ratio) for _ in range(config.encoder_depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, patches: Float[Tensor, "b n p"], visible: Int[Tensor, "b v"] | None = None
    ) -> Float[Tensor, "b v e"]:
        """Encodes patches to latent tokens.

        Args:
            patches: Normalised patches (b, n, p) in token order.
            visible: Indices (b, v) of the patches to encode; None: all.
        """
        positions, rotation = self.positions(), None if self.rotary is None else self.rotary()
        if visible is not None:
            patches = gather_tokens(patches, visible)
            positions = positions[visible]
            rotation = None if rotation is None else rotation.of(visible)
        tokens = self.embed(patches) + positions  # in the positions' type: see `Block`
        for after in self.layers(tokens, rotation):
            tokens = after
        latent: Tensor = self.norm(tokens)
        return latent

    def layers(self, tokens: Float[Tensor, "b v e"], rotation: Rotation | None) -> Iterator[Float[Tensor, "b v e"]]:
        """The tokens after each block, before the last norm.

        Args:
            tokens: Embedded tokens with positional encodings.
            rotation: Angles of the tokens, for blocks that have rotary positions; else None.
        """
        for block in self.blocks:
            tokens = block(tokens) if rotation is None else block(tokens, rotation)
            yield tokens


@final
class Decoder(PatchDecoder):
    """Transformer blocks over the full sequence: latent tokens in their places, mask tokens elsewhere (§III-B)."""

    @staticmethod
    def attended(depth: int, grid: PatchGrid, visible: int, rebuilt: int) -> list[Attended]:
        """All tokens attend to all; the last block returns only the ones that the loss uses."""
        tokens = grid.tokens
        return [Attended(tokens, tokens, tokens)] * (depth - 1) + [Attended(rebuilt, tokens, tokens)]

    def forward(
        self,
        latent: Float[Tensor, "b v e"],
        visible: Int[Tensor, "b v"],
        wanted: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t k"]:
        """Decodes tokens; the last block computes only the wanted ones, which attend to all."""
        sequence = self.fill_sequence(latent, visible)
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            sequence = block(sequence, wanted=wanted if number == last else None)
        decoded: Tensor = sequence
        return decoded


DECODERS: Catalog[type[PatchDecoder]] = Catalog(
    "decoder", {"self": Decoder, "cross": CrossDecoder, "axial": AxialDecoder, "windows": WindowDecoder}
)


def make_decoder(config: MAEConfig) -> PatchDecoder:
    """Makes the decoder that the configuration names."""
    width, kind = config.decoder_width, DECODERS[config.decoder]
    depth, heads = config.decoder_depth, config.decoder_heads
    blocks = (Block(width, heads, config.mlp_ratio, fused=kind.fused) for _ in range(depth))
    return kind(config.encoder_width, width, blocks, config.make_positions(width), config.grid.voxels_per_patch)


FUSIONS: Mapping[str, Callable[[FusionConfig, Shape3, float, float], Fusion]] = {
    "cells": CellFusion,
    "voxels": VoxelFusion,
}


def make_fusion(config: MAEConfig) -> Fusion:
    """Makes the fusion that the configuration names."""
    return FUSIONS[config.fusion.network](config.fusion, config.patch, config.input_mean, config.input_std)


@final
class MaskedAutoencoder(Pretrainer):
    """Encodes the visible patches of a superpatch and rebuilds all of them.

    Args:
        config: Sizes and options.
        masking: Choice of the tokens to mask.
    """

    encoder: Encoder
    decoder: PatchDecoder

    def __init__(self, config: MAEConfig, masking: Masking) -> None:
        super().__init__(config.grid, masking)
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = make_decoder(config)
        self.latent = Latent(masking.visible_count(self.grid) * config.encoder_width)
        self.hints = "the true mean and deviation of every patch" if config.normalize_targets else ""
        self.overlap = Overlap(config.grid) if config.head == "overlap" else None
        initialize_network(self, self.encoder.embed, self.decoder, start=config.start, patch=config.patch)
        self.visible_head = inverse_layer(self.encoder.embed) if config.visible_head else None
        self.fusion = make_fusion(config) if config.fusion.width else None

    def loss(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        mask: Bool[Tensor, "b n"],
        generators: Sequence[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Mean squared error over the masked patches (§III-B), in units of `input_std` squared.

        With `visible_weight`, the weighted error over the visible patches is added, with `visible_head` the error
        of this head, and with `ssim_weight` the weighted 1 - SSIM of the masked voxels. See `Pretrainer.loss`.
        """
        patches = self.grid.patchify(self._normalize(superpatch))
        visible, masked = split_tokens(mask, self.masking.visible_count(self.grid))
        latent = self.encoder(patches, visible)
        if self.config.visible_weight:
            decoded = self.decoder(latent, visible)
            seen = self._error(self._predict(gather_tokens(decoded, visible)), patches, visible)
            hidden = self._predict(gather_tokens(decoded, masked), masked)
            return self._error(hidden, patches, masked) + self.config.visible_weight * seen
        wanted = self._draw_rebuilt(masked, generators)
        predicted = self._predict(self.decoder(latent, visible, wanted), wanted)
        loss = self._error(predicted, patches, wanted)
        if self.config.ssim_weight:
            volume = self._volume(put_tokens(self._targets(patches.float()), wanted, predicted))
            loss = loss + self.config.ssim_weight * ssim_loss(volume, superpatch.float(), self.voxel_mask(mask))
        if self.visible_head is None:
            return loss
        shown = gather_tokens(patches, visible)
        return loss + VISIBLE_HEAD_WEIGHT * (self._rebuild_visible(shown) - shown.float()).square().mean()

    @property
    def last_stage(self) -> LastStage | None:
        """The fusion's training, if there is a fusion."""
        chosen = self.config.fusion
        return None if self.fusion is None else LastStage("fusion", self.fusion, chosen.share, chosen.peak_lr)

    def last_loss(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
        """Mean squared error of the fused masked voxels, in units of `input_std` squared.

        With `fusion.ssim_weight`, 1 - SSIM of them is added, with this weight.
        """
        if self.fusion is None:
            return super().last_loss(superpatch, mask)
        hidden, target = self.voxel_mask(mask), superpatch.float()
        fused = self.fusion(superpatch, self.rebuild(superpatch, mask), hidden)
        return masked_loss(fused, target, hidden, self.config.input_std, self.config.fusion.ssim_weight)

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds whole superpatches from their visible tokens, and fuses the masked voxels if there is a fusion."""
        hidden = self.voxel_mask(mask)
        volume = self.rebuild(superpatch, mask)
        return Reconstruction(volume if self.fusion is None else self.fusion(superpatch, volume, hidden), hidden)

    def entries(self, name: str) -> Mapping[str, Reconstructor]:
        """One row, or two with a fusion: the network alone, and what a user gets."""
        return {name: self} if self.fusion is None else {name: Unfused(self), f"{name} + fusion": self}

    @torch.no_grad()
    def rebuild(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b c d h w"]:
        """The network's own prediction of every voxel, in window units.

        With `normalize_targets` the prediction is scaled by the true mean and deviation of each patch, which the
        network does not predict: `hints` and the scores of such a model say so.
        """
        patches = self.grid.patchify(self._normalize(superpatch))
        visible, masked = split_tokens(mask, int((~mask[0]).sum()))
        decoded = self.decoder(self.encoder(patches, visible), visible)
        predicted = self._predict(decoded)
        if self.overlap is not None:
            blended = self._predict(gather_tokens(decoded, masked), masked)
            predicted = self.overlap.from_octants(put_tokens(predicted, masked, blended))
        if self.visible_head is not None:
            predicted = put_tokens(predicted, visible, self._rebuild_visible(gather_tokens(patches, visible)))
        if self.config.normalize_targets:
            mean, deviation = patch_statistics(patches.float())
            predicted = predicted * deviation + mean
        return self._denormalize(self.grid.unpatchify(predicted))

    def _volume(self, predicted: Float[Tensor, "b n p"]) -> Float[Tensor, "b c d h w"]:
        """Superpatches in window units, from the predictions of all tokens in the head's order of voxels."""
        patches = predicted if self.overlap is None else self.overlap.from_octants(predicted)
        return self._denormalize(self.grid.unpatchify(patches))

    def _draw_rebuilt(
        self, masked: Int[Tensor, "b m"], generators: Sequence[torch.Generator] | None
    ) -> Int[Tensor, "b t"]:
        """Draws the masked tokens that a step rebuilds; draws nothing where these are all."""
        count = self.config.rebuilt_count(self.grid.tokens - masked.shape[1])
        if count == masked.shape[1]:
            return masked
        streams: Sequence[torch.Generator | None] = generators or [None] * len(masked)
        scores = torch.stack(
            [torch.rand(masked.shape[1], generator=stream, device=masked.device) for stream in streams]
        )
        return masked.gather(1, scores.argsort(dim=1)[:, :count])

    def _predict(
        self, decoded: Float[Tensor, "b t k"], masked: Int[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b t p"]:
        """Predicts the patches of decoded tokens, in normalised units, float32, in the head's order of voxels.

        Args:
            decoded: Decoded tokens.
            masked: Indices of the tokens, if these are all masked ones, whose predictions may overlap.
        """
        predicted = self.decoder.predict(decoded)
        return predicted if self.overlap is None or masked is None else self.overlap(predicted, masked)

    def _rebuild_visible(self, shown: Float[Tensor, "b v p"]) -> Float[Tensor, "b v p"]:
        """Rebuilds visible patches by the visible head, in normalised units, float32."""
        assert self.visible_head is not None
        with torch.no_grad():
            embedded = self.encoder.embed(shown)
        rebuilt: Tensor = self.visible_head(embedded)
        return rebuilt.float()

    def _error(
        self, predicted: Float[Tensor, "b t p"], patches: Float[Tensor, "b n p"], chosen: Int[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        return (predicted - self._targets(gather_tokens(patches, chosen).float())).square().mean()

    def _targets(self, patches: Float[Tensor, "b m p"]) -> Float[Tensor, "b m p"]:
        if self.overlap is not None:
            return self.overlap.to_octants(patches)
        if not self.config.normalize_targets:
            return patches
        mean, deviation = patch_statistics(patches)
        return (patches - mean) / deviation

    def _normalize(self, superpatch: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        normalized = (superpatch - self.config.input_mean) / self.config.input_std
        return normalized.to(self.encoder.embed.weight.dtype)

    def _denormalize(self, volume: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        return volume * self.config.input_std + self.config.input_mean


@final
class Unfused(Reconstructor):
    """A masked autoencoder without its fusion.

    Args:
        model: The trained model.
    """

    def __init__(self, model: MaskedAutoencoder) -> None:
        super().__init__(model.grid, model.masking)
        self.model = model
        self.hints = model.hints

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds superpatches from their visible tokens."""
        return Reconstruction(self.model.rebuild(superpatch, mask), self.voxel_mask(mask))


def split_tokens(mask: Bool[Tensor, "b n"], visible: int) -> tuple[Int[Tensor, "b v"], Int[Tensor, "b m"]]:
    """Splits a mask into the indices of visible and of masked tokens, both ascending.

    Args:
        mask: Mask, True = masked, with exactly `visible` False entries in every row: checked without a sync.
        visible: Number v of visible tokens, given so that shapes are static.
    """
    torch._assert_async(
        (mask.sum(dim=1) == mask.shape[1] - visible).all(),
        "a mask row has the wrong number of visible tokens",
    )
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    return order[:, :visible], order[:, visible:]


def patch_statistics(
    patches: Float[Tensor, "b t p"],
) -> tuple[Float[Tensor, "b t 1"], Float[Tensor, "b t 1"]]:
    """Mean and standard deviation of every patch; the deviation is above zero."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True, correction=0)
    return mean, (variance + PATCH_VARIANCE_FLOOR).sqrt()
