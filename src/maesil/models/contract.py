"""The promises of models that rebuild superpatches: reconstructors, and pretrainers, which are trained by it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from maesil.grid import PatchGrid
from maesil.masking import Masking
from maesil.shapes import Shape3


class ModelConfig(ABC):
    """The settings of a model that is trained. Subclasses are frozen dataclasses.

    Attributes:
        name: Name of the model.
        superpatch: Voxels of a superpatch along (S, P, L).
        patch: Voxels of a patch.
    """

    name: str
    superpatch: Shape3
    patch: Shape3

    @property
    def grid(self) -> PatchGrid:
        """The superpatch's grid of patches."""
        return PatchGrid(self.superpatch, self.patch)

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """The network in words: part to description."""


@dataclass(frozen=True)
class Reconstruction:
    """A superpatch as a model rebuilds it.

    Attributes:
        volume: Voxels (b, c, d, h, w) in window units [0, 1], visible ones as the model predicts them.
        mask: Mask (b, 1, d, h, w) of the voxels that the model did not see; True = masked.
    """

    volume: Float[Tensor, "b c d h w"]
    mask: Bool[Tensor, "b 1 d h w"]


@dataclass(frozen=True)
class Latent:
    """Size of the bottleneck: what an encoder passes to its decoder for one superpatch.

    Attributes:
        elements: Number of values.
        bits: Number of bits that encode the values, where they come from a codebook; None: the values are free.
    """

    elements: int
    bits: float | None = None


class Reconstructor(nn.Module, ABC):
    """A model that rebuilds superpatches from their visible tokens.

    Subclasses are final and keep these promises, which `tests/contracts/test_pretrainers.py` checks for all:

    * Superpatches are (b, c, d, h, w) in window units [0, 1]; so are reconstructions, in float32.
    * The volume of `reconstruct` does not depend on masked voxels, unless `sees_all` or `hints` says so.
    * Visible voxels of the volume are the model's own, unless `predicts_visible` is False: then the superpatch's.
    * Masks come from `draw_mask`; the same generator state gives the same masks.
    * Autocast to bfloat16 and float16, and `module.to(torch.bfloat16)`, work on the CPU too.

    Args:
        grid: Grid of patches of a superpatch.
        masking: Choice of the tokens to mask.

    Attributes:
        sees_all: Whether the model sees the masked voxels, too.
        predicts_visible: Whether the model predicts visible voxels; if not, it passes them through.
        keeps_masks: Whether the masks are part of the model, which is then scored under its own alone.
        hints: Description of other knowledge of masked voxels that the model gets; empty where it gets none.
    """

    sees_all: bool = False
    predicts_visible: bool = True
    keeps_masks: bool = False
    hints: str = ""

    def __init__(self, grid: PatchGrid, masking: Masking) -> None:
        super().__init__()
        self.grid = grid
        self.masking = masking

    @property
    def mask_grid(self) -> PatchGrid:
        """Grid that masks are drawn on; the tokens' own, unless a model has several tokens per patch of its masks."""
        return self.grid

    @abstractmethod
    def reconstruct(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Reconstruction:
        """Rebuilds superpatches from their visible tokens.

        Args:
            superpatch: Voxels (b, c, d, h, w) in window units [0, 1].
            mask: Mask (b, n) of tokens, True = masked, the same number in every row.
        """

    def draw_mask(self, batch: int, generator: torch.Generator) -> Bool[Tensor, "b n"]:
        """Draws masks for a batch, True = masked, on the generator's device."""
        return self.masking.draw(batch, self.grid, generator)

    def voxel_mask(self, mask: Bool[Tensor, "b n"]) -> Bool[Tensor, "b 1 d h w"]:
        """Converts a mask of tokens to a mask of voxels."""
        return self.grid.unpatchify(mask.unsqueeze(-1).expand(-1, -1, self.grid.voxels_per_patch))


@dataclass(frozen=True)
class LastStage:
    """The end of a training, in which one part of a model learns and all others are frozen.

    Attributes:
        name: Name of the part.
        part: Network that learns, and only then.
        share: Share of the run's steps, at its end, in (0, 1]; 1: all of them, and the other parts never learn.
        peak_lr: Peak learning rate.
    """

    name: str
    part: nn.Module
    share: float
    peak_lr: float

    @property
    def takes_all(self) -> bool:
        """Whether the stage is the whole run, so that the other parts never learn."""
        return self.share == 1.0

    def first_step(self, steps: int) -> int:
        """Number of steps before the stage in a run of `steps`; with a share below 1, each has one if there are two."""
        if self.takes_all:
            return 0
        return steps - min(steps - 1, max(1, round(self.share * steps)))


class Pretrainer(Reconstructor, ABC):
    """A model that is trained by rebuilding superpatches.

    Subclasses are final and keep these promises, too:

    * `loss` is a scalar with a finite gradient for every parameter that requires one, except those of a last stage.
    * With a last stage, `last_loss` is a scalar with a finite gradient for the parameters of its part alone.
    * All random numbers of `loss` come from its generators.

    Attributes:
        encoder: Network from a superpatch to its latent; an identity where the model has no bottleneck.
        latent: Size of the bottleneck; None where the model has none, such as a U-Net.
    """

    encoder: nn.Module
    latent: Latent | None = None

    @abstractmethod
    def loss(
        self,
        superpatch: Float[Tensor, "b c d h w"],
        mask: Bool[Tensor, "b n"],
        generators: Sequence[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> Float[Tensor, ""]:
        """The training objective, averaged over the batch.

        Args:
            superpatch: Voxels (b, c, d, h, w) in window units [0, 1].
            mask: Mask (b, n) from `draw_mask`, True = masked.
            generators: Random streams, one for each superpatch, on its device; None: PyTorch's global stream.
            progress: Share of the training that is done, in [0, 1].
        """

    @property
    def last_stage(self) -> LastStage | None:
        """The end of the training in which only one part of the model learns; None if there is no such part."""
        return None

    def last_loss(self, superpatch: Float[Tensor, "b c d h w"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, ""]:
        """The training objective of the last stage, averaged over the batch; see `loss`."""
        raise NotImplementedError("this model has no last stage")

    def measures(self) -> Mapping[str, Tensor]:
        """Parts of the last loss, for the logs: name to scalar."""
        return {}

    def entries(self, name: str) -> Mapping[str, Reconstructor]:
        """Rows of the model in a table: name of the row to the model that rebuilds superpatches for it."""
        return {name: self}
