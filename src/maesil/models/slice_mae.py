"""A 2D masked autoencoder of axial slices, for comparison with 3D ones (MedMAE, Gupta et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from maesil.errors import ConfigError
from maesil.grid import PatchGrid
from maesil.masking import Masking, PlaneMasking
from maesil.models.contract import Latent, ModelConfig, Pretrainer, Reconstruction
from maesil.models.initial import Start, initialize_network
from maesil.models.mae import Encoder, MAEConfig, make_decoder, split_tokens
from maesil.models.transformer import VIT_WAVELENGTHS, PatchDecoder
from maesil.shapes import Shape3


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class SliceMAEConfig(ModelConfig):
    """Sizes and options of a masked autoencoder of axial slices.

    Args:
        superpatch: Voxels of a superpatch along (S, P, L); its slices are the images.
        patch: Voxels of a patch: (1, 16, 16) as MedMAE's.
        masks: Kind of masks. "own" hides the masking's total share of every slice at random: as many voxels as for a 3D
            model, but others. "shared" hides the same voxels as for a 3D model with patches of `mask_patch`.
        mask_patch: Voxels of a patch of the shared masks.
        encoder_width: Embedding dimension of the encoder.
        encoder_depth: Number of encoder blocks.
        encoder_heads: Number of encoder attention heads.
        decoder_width: Embedding dimension of the decoder.
        decoder_depth: Number of decoder blocks.
        decoder_heads: Number of decoder attention heads.
        mlp_ratio: Hidden over embedding width in the blocks' MLPs.
        position_wavelengths: Shortest and longest wavelength of the encodings, in patches.
        start: Kind of initial weights, as in `MAEConfig`.
        input_mean: Mean of the input in window units.
        input_std: Standard deviation of the input in window units.
    """

    name: Literal["slice_mae"] = "slice_mae"
    superpatch: Shape3 = (128, 128, 128)
    patch: Shape3 = (1, 16, 16)
    masks: Literal["own", "shared"] = "own"
    mask_patch: Shape3 = (8, 8, 8)
    encoder_width: PositiveInt = 768
    encoder_depth: PositiveInt = 12
    encoder_heads: PositiveInt = 12
    decoder_width: PositiveInt = 512
    decoder_depth: PositiveInt = 8
    decoder_heads: PositiveInt = 16
    mlp_ratio: float = 4.0
    position_wavelengths: tuple[PositiveFloat, PositiveFloat] = VIT_WAVELENGTHS
    start: Start = "xavier"
    input_mean: float = 0.3
    input_std: PositiveFloat = 0.25

    def __post_init__(self) -> None:
        PatchGrid(self.superpatch, self.patch)
        if self.patch[0] != 1:
            raise ConfigError(
                f"a patch of a slice is one voxel thick, not {self.patch[0]}", fix="--model.patch 1 16 16"
            )
        if self.masks == "shared" and any(m % p for m, p in zip(self.mask_patch, self.patch, strict=True)):
            raise ConfigError(
                f"patches of {self.patch} voxels do not divide the masks' of {self.mask_patch}",
                fix="--model.patch 1 8 8 goes with masks of 8 8 8",
            )

    @property
    def slice_config(self) -> MAEConfig:
        """Configuration of the network for one slice."""
        return MAEConfig(
            superpatch=(1, *self.superpatch[1:]),
            patch=self.patch,
            encoder_width=self.encoder_width,
            encoder_depth=self.encoder_depth,
            encoder_heads=self.encoder_heads,
            decoder_width=self.decoder_width,
            decoder_depth=self.decoder_depth,
            decoder_heads=self.decoder_heads,
            mlp_ratio=self.mlp_ratio,
            position_wavelengths=self.position_wavelengths,
            start=self.start,
            input_mean=self.input_mean,
            input_std=self.input_std,
        )

    def describe(self) -> dict[str, str]:
        """Descriptions of encoder, decoder and input."""
        return {**self.slice_config.describe(), "input": "axial slices, one by one"}


@final
class SliceMAE(Pretrainer):
    """Encodes the visible patches of every slice independently, and rebuilds the slice.

    Args:
        config: Sizes and options.
        masking: Choice of the tokens that a 3D model masks; own masks use only its total share.
    """

    keeps_masks = True
    encoder: Encoder
    decoder: PatchDecoder

    def __init__(self, config: SliceMAEConfig, masking: Masking) -> None:
        shared = config.masks == "shared"
        super().__init__(config.grid, masking if shared else PlaneMasking(masking.ratio))
        self.config = config
        self.shared = shared
        slices = config.slice_config
        self.encoder = Encoder(slices)
        self.decoder = make_decoder(slices)
        initialize_network(self, self.encoder.embed, self.decoder, start=config.start, patch=config.patch)
        self.latent = Latent(self._visible_count() * config.encoder_width)

    def _visible_count(self) -> int:
        if not self.shared:
            return self.masking.visible_count(self.grid)
        return self.masking.visible_count(self.mask_grid) * self._finer

    @property
    def mask_grid(self) -> PatchGrid:
        """Grid that masks are drawn on: a 3D model's if masks are shared."""
        return PatchGrid(self.config.superpatch, self.config.mask_patch) if self.shared else self.grid

    @property
    def _finer(self) -> int:
        """Number of patches in a patch of the shared masks."""
        return PatchGrid(self.config.mask_patch, self.config.patch).tokens

    def draw_mask(self, batch: int, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        """Draws masks (b, n) of the patches of all slices, True = masked.

        Shared masks draw the same random numbers as the 3D model's, so both hide the same voxels.
        """
        if not self.shared:
            return self.masking.draw(batch, self.grid, generator)
        coarse = self.mask_grid
        mask = self.masking.draw(batch, coarse, generator).view(batch, *coarse.shape)
        for axis, (large, small) in enumerate(zip(self.config.mask_patch, self.config.patch, strict=True), start=1):
            mask = mask.repeat_interleave(large // small, dim=axis)
        return mask.flatten(1)

    def loss(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        mask: Bool[Tensor, "b n"],
        generators: Sequence[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """Mean squared error over the masked patches, in units of `input_std` squared. See `Pretrainer.loss`."""
        patches = self.grid.patchify(self._normalize(superpatch))
        error = (self._predict(patches, mask) - patches.float()).square().mean(dim=-1)
        return (error * mask).sum() / mask.sum()

    @torch.no_grad()
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds every slice from its visible patches, and stacks them.

        Args:
            superpatch: Voxels (b, c, d, h, w) in window units [0, 1].
            mask: Mask (b, n), True = masked; all slices with visible patches have the same number of them.
        """
        predicted = self._predict(self.grid.patchify(self._normalize(superpatch)), mask)
        volume = self.grid.unpatchify(predicted) * self.config.input_std + self.config.input_mean
        return Reconstruction(volume, self.voxel_mask(mask))

    def _predict(self, patches: Float[Tensor, "b n p"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n p"]:
        """Predicts all patches, normalised, float32. All slices without a visible patch get the same prediction."""
        batch, planes, per_plane = len(patches), self.grid.planes, self.grid.tokens_per_plane
        hidden = mask.view(batch * planes, per_plane)
        visible = (~hidden).sum(dim=1)
        seen = visible.nonzero().flatten()
        count = int(visible.max())
        images = patches.reshape(batch * planes, per_plane, -1)
        latent, places = self._encode(images[seen], hidden[seen], count)
        predicted = self.decoder.predict(self.decoder(latent, places))
        if len(seen) == len(images):
            return predicted.view(batch, planes * per_plane, -1)
        nothing = self.decoder.predict(self.decoder(latent[:1, :0], places[:1, :0]))
        everything = nothing.expand(len(images), -1, -1).index_copy(0, seen, predicted)
        return everything.reshape(batch, planes * per_plane, -1)

    def _encode(
        self, images: Float[Tensor, "s t p"], hidden: Bool[Tensor, "s t"], count: int
    ) -> tuple[Float[Tensor, "s v e"], Tensor]:
        visible, _ = split_tokens(hidden, count)
        return self.encoder(images, visible), visible

    def _normalize(self, superpatch: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        normalized = (superpatch - self.config.input_mean) / self.config.input_std
        return normalized.to(self.encoder.embed.weight.dtype)
