"""What every model trained by reconstruction promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maesil.grid import PatchGrid
from maesil.masking import Masking


@dataclass(frozen=True)
class Reconstruction:
    """A superpatch as a model rebuilds it.

    Attributes:
        volume: (b, c, d, h, w) in window units [0, 1]; visible voxels as the network predicts them, not pasted.
        mask: (b, 1, d, h, w) voxels the model did not see; True = masked.
    """

    volume: Float[Tensor, "b c d h w"]
    mask: Bool[Tensor, "b 1 d h w"]


@dataclass(frozen=True)
class Latent:
    """What an encoder hands on to its decoder, per superpatch: the bottleneck.

    Attributes:
        elements: Numbers handed on.
        bits: Bits that name them, where they come from a codebook; None: each number is free.
    """

    elements: int
    bits: float | None = None


class Pretrainer(nn.Module, ABC):
    """Anything trained by rebuilding superpatches.

    `latent` is None where nothing is handed from an encoder to a decoder: a model that learns nothing, or a U-Net.

    Subclasses are final and keep these promises, which `tests/contracts/test_pretrainers.py` checks for all:

    * Superpatches are (b, c, d, h, w) in window units [0, 1]; so are reconstructions, in float32.
    * Nothing of a masked voxel reaches `reconstruct`'s volume, unless `sees_all` or `told` says so.
    * Visible voxels of `reconstruct`'s volume are the model's own, unless `predicts_visible` is False: then they are
      the superpatch's.
    * `loss` is a scalar with a finite gradient for every parameter that requires one.
    * Masks come from `draw_mask`; the same generator state gives the same masks.
    * Autocast to bfloat16 and float16, and `module.to(torch.bfloat16)`, work on the CPU too.
    """

    grid: PatchGrid
    masking: Masking
    encoder: nn.Module
    trainable: bool = True
    sees_all: bool = False
    predicts_visible: bool = True
    told: str = ""
    latent: Latent | None = None
    _streams: Sequence[torch.Generator] = ()

    @abstractmethod
    def loss(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
        """The training objective, averaged over the batch."""

    @abstractmethod
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds superpatches from their visible tokens."""

    def begin_step(self, progress: float, generators: Sequence[torch.Generator]) -> None:
        """Called before each training loss.

        Args:
            progress: Share of the training that is done, in [0, 1).
            generators: Where the loss draws noise from, on its device: a stream for each superpatch of the batch.
        """
        self._streams = generators

    def take_streams(self, batch: int) -> Sequence[torch.Generator | None]:
        """The step's streams, one for each superpatch, used up; the global stream (None) where no step was begun."""
        taken, self._streams = self._streams, ()
        return taken or [None] * batch

    def measures(self) -> Mapping[str, Tensor]:
        """What the last loss was made of, for the logs: name to scalar."""
        return {}

    def entries(self, name: str) -> Mapping[str, Pretrainer]:
        """The rows that this model has in a table: name to what rebuilds superpatches under it."""
        return {name: self}

    def draw_mask(self, batch: int, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        """Masks for a batch, True = masked, on the generator's device."""
        return self.masking.draw(batch, self.grid, generator)

    def voxel_mask(self, mask: Bool[Tensor, "b n"]) -> Bool[Tensor, "b 1 d h w"]:
        """A mask of tokens as a mask of voxels."""
        return self.grid.unpatchify(mask.unsqueeze(-1).expand(-1, -1, self.grid.voxels_per_patch))
