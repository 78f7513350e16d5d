"""Superpatch <-> patches (§III-A): how 128^3 voxels become 16x16x16 = 4,096 tokens of 8^3 voxels.

Works on torch tensors and numpy arrays alike; this file imports neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from einops import rearrange

from maesil.errors import ConfigError
from maesil.shapes import Shape3, product

A = TypeVar("A")


@dataclass(frozen=True)
class PatchGrid:
    """The grid of patches of one superpatch.

    Token order is row-major over (gd, gh, gw): token n lies in axial plane ``n // (gh * gw)``. Voxels within a patch
    are row-major over (pd, ph, pw, c). Every module uses this order.

    Args:
        superpatch: Shape of a superpatch in voxels, along (S, P, L).
        patch: Shape of a patch in voxels, along (S, P, L); must divide `superpatch`.

    Raises:
        ConfigError: A size is not positive, or the patch does not divide the superpatch.
    """

    superpatch: Shape3 = (128, 128, 128)
    patch: Shape3 = (8, 8, 8)

    def __post_init__(self) -> None:
        if min(self.superpatch) < 1 or min(self.patch) < 1:
            raise ConfigError(f"sizes must be positive: superpatch {self.superpatch}, patch {self.patch}")
        if any(s % p for s, p in zip(self.superpatch, self.patch, strict=True)):
            raise ConfigError(
                f"a patch of {self.patch} voxels does not divide a superpatch of {self.superpatch}",
                fix="make every edge of the superpatch a multiple of the patch's",
            )

    @property
    def shape(self) -> Shape3:
        """Number of patches along (S, P, L): (gd, gh, gw)."""
        return (
            self.superpatch[0] // self.patch[0],
            self.superpatch[1] // self.patch[1],
            self.superpatch[2] // self.patch[2],
        )

    @property
    def tokens(self) -> int:
        """n, the number of tokens of a superpatch."""
        return product(self.shape)

    @property
    def planes(self) -> int:
        """gd, the number of axial planes of tokens."""
        return self.shape[0]

    @property
    def tokens_per_plane(self) -> int:
        """gh * gw, the number of tokens of one axial plane."""
        return self.shape[1] * self.shape[2]

    @property
    def voxels_per_patch(self) -> int:
        """Number of voxels of one patch (p for one channel)."""
        return product(self.patch)

    def patchify(self, superpatch: A) -> A:
        """(b, c, d, h, w) voxels to (b, n, p) patches."""
        pd, ph, pw = self.patch
        pattern = "b c (gd pd) (gh ph) (gw pw) -> b (gd gh gw) (pd ph pw c)"
        patches: A = rearrange(superpatch, pattern, pd=pd, ph=ph, pw=pw)
        return patches

    def unpatchify(self, patches: A) -> A:
        """(b, n, p) patches to (b, c, d, h, w) voxels: the inverse of `patchify`."""
        gd, gh, gw = self.shape
        pd, ph, pw = self.patch
        pattern = "b (gd gh gw) (pd ph pw c) -> b c (gd pd) (gh ph) (gw pw)"
        voxels: A = rearrange(
            patches,
            pattern,
            gd=gd,
            gh=gh,
            gw=gw,
            pd=pd,
            ph=ph,
            pw=pw,
        )
        return voxels
