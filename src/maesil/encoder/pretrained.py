"""What `maesil.load` returns: an encoder that knows how its scans were prepared."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maesil.ct.doubts import ValuesWarning
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.encoder.card import Transfer
from maesil.encoder.one_scan import Embedding, embed_scan
from maesil.encoder.tokens import TOGETHER
from maesil.models.backbone import Backbone
from maesil.models.mae import MAEConfig
from maesil.shapes import Shape3

FAR_OUT = 10.0
"""Values so far from the window units [0, 1] are no augmentation of them, but Hounsfield units."""


@final
class PretrainedEncoder(nn.Module):
    """A pre-trained encoder with its card: a `Backbone`, plus `embed`, which takes scans.

    Parameters have the names that a backbone gives them.

    Args:
        backbone: The encoder.
        card: Its description.
    """

    def __init__(self, backbone: Backbone, card: Transfer) -> None:
        super().__init__()
        self.card = card
        self.encoder = backbone.encoder  # keeps the backbone's parameter names; the backbone itself is not a submodule
        self.__dict__["backbone"] = backbone
        self._has_looked = False

    @property
    def backbone(self) -> Backbone:
        """The encoder for boxes of voxels, with the same weights."""
        backbone: Backbone = self.__dict__["backbone"]
        return backbone

    @property
    def config(self) -> MAEConfig:
        """Configuration of the pre-trained model."""
        return self.backbone.config

    @property
    def width(self) -> int:
        """Number of channels e of tokens, feature maps and vectors."""
        return self.backbone.width

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.backbone.depth

    @property
    def patch(self) -> Shape3:
        """Voxels of a patch along (S, P, L)."""
        return self.backbone.patch

    def embed(
        self,
        scan: Any,
        *,
        affine: Any = None,
        series: str | None = None,
        tokens: bool = False,
        batch: int = 4,
        groups: tuple[int, int] = TOGETHER,
        options: ReadOptions = STRICT,
        accept_any_values: bool = False,
    ) -> Embedding:
        """Embeds one scan: reads it, brings it to the encoder's orientation, spacing and window, and pools its tokens.

        The result equals what `maesil embed` writes for a store of the scan.

        Args:
            scan: A path (NIfTI, NRRD, MetaImage, DICOM folder), a SimpleITK image, a nibabel image, or an array or
                tensor (d, h, w) in HU, with `affine`.
            affine: (4, 4); maps an index of the array's own axes to mm in RAS, as nibabel and MONAI have it.
            series: The DICOM series to read, if the folder contains several.
            tokens: Whether to return the vector and the position of every patch, too.
            batch: Superpatches per batch.
            groups: Blocks of planes, and parts of each plane, that are encoded apart; (2, 2) shows the encoder as many
                tokens at once as a dual mask of 75 % did in pre-training.
            options: How to read a file that is refused otherwise, such as one without spacing (`maesil.ReadOptions`).
            accept_any_values: Whether to embed values that cannot be Hounsfield units.

        Warns:
            GeometryWarning: The axes of the scan seem to be exchanged.
            ValuesWarning: The values were clipped to a window.

        Raises:
            ScanError: The scan cannot be read, is not sound, is not in HU, or has no tissue.
            ConfigError: The object is not a scan, an array has no affine, or `batch` is less than 1.
        """
        return embed_scan(
            self.backbone,
            self.card,
            scan,
            affine=affine,
            series=series,
            tokens=tokens,
            batch=batch,
            groups=groups,
            options=options,
            accept_any_values=accept_any_values,
        )

    def from_hu(self, hu: Any) -> Tensor:
        """Converts Hounsfield units to the network's input, as `Backbone.from_hu` does."""
        return self.backbone.from_hu(hu)

    def forward(self, volume: Float[Tensor, "b 1 d h w"]) -> Float[Tensor, "b e gd gh gw"]:
        """The last feature map of a box in window units, as `Backbone.forward` gives it.

        Warns:
            ValuesWarning: The first box is in Hounsfield units. Later ones are not looked at: a GPU would have to wait.
        """
        self._look_at(volume)
        feature_map: Tensor = self.backbone(volume)
        return feature_map

    def tokens(self, volume: Float[Tensor, "b 1 d h w"]) -> Float[Tensor, "b n e"]:
        """The last tokens of a box, as `Backbone.tokens` gives them; warns as `forward` does."""
        self._look_at(volume)
        return self.backbone.tokens(volume)

    def features(
        self, volume: Float[Tensor, "b 1 d h w"], depths: Sequence[int]
    ) -> list[Float[Tensor, "b e gd gh gw"]]:
        """Feature maps after chosen blocks, as `Backbone.features` gives them; warns as `forward` does."""
        self._look_at(volume)
        return self.backbone.features(volume, depths)

    def _look_at(self, volume: Tensor) -> None:
        if self._has_looked or torch.compiler.is_compiling() or volume.is_meta or not volume.numel():
            return
        self._has_looked = True
        low, high = (float(end) for end in volume.detach().aminmax())
        if max(-low, high) > FAR_OUT:
            warnings.warn(
                f"the values are {low:g} to {high:g}, and the encoder takes window units, [0, 1]; if they are HU, "
                "convert them with encoder.from_hu(hu)",
                ValuesWarning,
                stacklevel=3,
            )
