"""Features of one scan in one call: reading, orientation, spacing and window are done as for a store."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64

from maesil.ct.doubts import doubts_about_hounsfield, require_hounsfield, warn_of
from maesil.ct.geometry import Geometry
from maesil.ct.readers.in_memory import volume_of
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.ct.volume import Volume
from maesil.encoder.card import Transfer
from maesil.encoder.tokens import TOGETHER, box_tokens, pooled, require_batch, weighted_mean
from maesil.errors import ScanError
from maesil.models.backbone import Backbone
from maesil.sampling.ahead import box_reader
from maesil.shapes import Shape3
from maesil.store.arrays import tissue_blocks
from maesil.store.conform import conform
from maesil.store.settings import PrepareConfig
from maesil.tiling import Tile


@dataclass(frozen=True)
class Embedding:
    """The features of one scan.

    Attributes:
        vector: The scan's vector, (e,) float32: the mean over all tokens whose patch is not air. It is the row `scan`
            of what `maesil embed` writes for a store of the scan.
        superpatches: Vectors of the superpatches with tissue, (s, e) float32; the rows `superpatch` of that table.
        centres_mm: Centres of the superpatches, (s, 3), in LPS mm.
        tokens: Vectors of the patches that are not air, (t, e) float32; None unless asked for. Where superpatches
            overlap at the far ends of the scan, a patch may occur twice.
        positions_mm: Centres of these patches, (t, 3), in LPS mm; None unless asked for.
    """

    vector: Float32[np.ndarray, " e"]
    superpatches: Float32[np.ndarray, "s e"]
    centres_mm: Float64[np.ndarray, "s 3"]
    tokens: Float32[np.ndarray, "t e"] | None = None
    positions_mm: Float64[np.ndarray, "t 3"] | None = None


def embed_scan(
    backbone: Backbone,
    card: Transfer,
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
    """Embeds one scan, resampled and windowed as the encoder was trained.

    Args:
        backbone: The encoder, on its device.
        card: The encoder's card.
        scan: A path, a SimpleITK or nibabel image, or an array or tensor with `affine`, as in `volume_of`.
        affine: (4, 4); maps an index of the array's own axes to mm in RAS.
        series: The DICOM series to read, if the folder contains several.
        tokens: Whether to return the vector and the position of every patch, too.
        batch: Superpatches per batch.
        groups: Tokens that are encoded apart, as in `maesil.encoder.tokens.box_layers`.
        options: How to read a file that is refused otherwise.
        accept_any_values: Whether to embed values that cannot be Hounsfield units.

    Warns:
        GeometryWarning: The axes of the scan seem to be exchanged.
        ValuesWarning: The values were clipped to a window.

    Raises:
        ScanError: The scan cannot be read, is not sound, is not in HU, or has no tissue.
        ConfigError: The object is not a scan, an array has no affine, or `batch` is less than 1.
    """
    require_batch(batch)
    try:
        volume = volume_of(scan, affine=affine, series=series, options=options)
    except ScanError as error:
        argument = _argument(error.fix or "")
        if argument is None:
            raise
        raise type(error)(error.what, where=error.where, fix=f"{error.fix}; in Python: {argument}") from error
    where = scan if isinstance(scan, str) or hasattr(scan, "__fspath__") else None
    if not accept_any_values:
        require_hounsfield(volume.array, where=where, anyway="pass accept_any_values=True")
        warn_of(doubts_about_hounsfield(volume), where)
    return embed_volume(
        backbone,
        conform(volume, {**PrepareConfig().recorded(), **card.voxels}, where=where),
        tokens=tokens,
        batch=batch,
        groups=groups,
        where=where,
    )


def _argument(fix: str) -> str | None:
    """The argument of `embed` that stands for the options of commands in an advice; None if it names none."""
    named = [field for field in fields(ReadOptions) if f"--{field.name.replace('_', '-')}" in fix]
    if named:
        values = ", ".join(f"{field.name}={True if field.default is False else '...'}" for field in named)
        return f"options=maesil.ReadOptions({values})"
    return "series=..." if "--series" in fix else None


def embed_volume(
    backbone: Backbone,
    volume: Volume,
    *,
    tokens: bool = False,
    batch: int = 4,
    groups: tuple[int, int] = TOGETHER,
    where: object = None,
) -> Embedding:
    """Embeds a volume that has the encoder's voxels, in orientation SPL.

    Raises:
        ScanError: It has no tissue.
    """
    vectors, counts, centres, every, places = [], [], [], [], []
    reads, occupancy = box_reader(volume), tissue_blocks(volume.array)
    for tile, found, solid in box_tokens(backbone, reads, volume.shape, occupancy, batch=batch, groups=groups):
        vectors.append(pooled(found, solid))
        counts.append(int(solid.sum()))
        centres.append(volume.geometry.index_to_mm(_middle(tile))[0])
        if tokens:
            every.append(found[solid].numpy())
            places.append(_patch_centres(volume.geometry, tile, backbone)[solid.numpy()])
    if not vectors:
        raise ScanError("the scan has no tissue to embed", where=where, fix="maesil check SCAN shows its values")
    return Embedding(
        weighted_mean(vectors, counts).astype(np.float32),
        np.stack(vectors).astype(np.float32),
        np.stack(centres),
        np.concatenate(every).astype(np.float32) if tokens else None,
        np.concatenate(places) if tokens else None,
    )


def _middle(tile: Tile) -> Float[np.ndarray, "1 3"]:
    """The centre of the part of the scan that a tile covers, as `maesil embed` gives it."""
    return np.array([[(part.start + part.stop - 1) / 2 for part in tile.inside]], dtype=np.float64)


def _patch_centres(geometry: Geometry, tile: Tile, backbone: Backbone) -> Float64[np.ndarray, "n 3"]:
    """LPS millimetres of the centres of a tile's patches, in the order of its tokens."""
    grid: Shape3 = backbone.config.grid.shape
    index = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1).reshape(-1, 3)
    patch = np.asarray(backbone.patch)
    return geometry.index_to_mm(np.asarray(tile.origin) + index * patch + (patch - 1) / 2)
