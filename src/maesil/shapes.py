"""The legend of axis letters, the same in jaxtyping annotations and einops patterns.

=====  =============================================================================================
b      batch
c      channel (1 for CT)
d h w  voxels along Superior, Posterior, Left (array axes 0, 1, 2 of orientation "SPL")
gd gh gw  patches along the same axes: the grid
pd ph pw  voxels of a patch along the same axes
n      tokens of a superpatch, ``n = gd * gh * gw``, in row-major (gd, gh, gw) order
v m    visible and masked tokens, ``v + m = n``
p      voxels per patch times channels, ``p = pd * ph * pw * c``, in (pd, ph, pw, c) order
e k    encoder width, decoder width
s      scans
=====  =============================================================================================

A mask is boolean and True = masked, everywhere.
"""

from __future__ import annotations

Shape3 = tuple[int, int, int]
"""A size or an index along (Superior, Posterior, Left)."""


def product(shape: Shape3) -> int:
    """Number of elements of a 3D box."""
    return shape[0] * shape[1] * shape[2]
