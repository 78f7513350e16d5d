"""Synthetic CT: a trunk with lungs and vessels, heart, aorta, organs, spine and ribs, and its labels.

For tests and for machines without network access. It is drawn from tissue HU and simple shapes, which the seed warps
and scales: not a substitute for scans, but every structure lies where a reader expects it, in orientation SPL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int16, UInt8
from scipy import ndimage

from maesil.ct.geometry import Geometry, Number
from maesil.ct.volume import AIR_HU, Volume
from maesil.shapes import Shape3

NAMES = {
    1: "fat", 2: "muscle", 3: "lung_right", 4: "lung_left", 5: "lung_vessel", 6: "heart", 7: "liver", 8: "spleen",
    9: "kidney_right", 10: "kidney_left", 11: "aorta", 12: "vertebra", 13: "disc", 14: "rib", 15: "spinal_canal",
    16: "stomach_gas",
}  # fmt: skip

HU = {
    "fat": -100, "muscle": 55, "lung_right": -850, "lung_left": -845, "lung_vessel": 60, "heart": 130, "liver": 105,
    "spleen": 115, "kidney_right": 160, "kidney_left": 160, "aorta": 190, "vertebra": 220, "disc": 90, "rib": 420,
    "spinal_canal": 25, "stomach_gas": -900,
}  # fmt: skip
CORTICAL_HU = 750
NOISE_HU = 14.0

Grid = Float[np.ndarray, "d h w"]
Mask = Bool[np.ndarray, "d h w"]
Labels = UInt8[np.ndarray, "d h w"]


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan.

    Attributes:
        volume: Scan as int16 HU, in orientation SPL.
        labels: Labels as uint8, on the same voxels; 0 is air.
        names: Map from label to structure.
    """

    volume: Volume
    labels: Volume
    names: dict[int, str] = field(default_factory=lambda: dict(NAMES))


def phantom(
    seed: int = 0, shape: Shape3 = (160, 180, 180), spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0)
) -> Phantom:
    """A synthetic trunk.

    Args:
        seed: Seed of the size, position and warp of everything, and of the noise.
        shape: Shape in voxels, along (S, P, L).
        spacing_mm: Voxel size along (S, P, L); 320 x 360 x 360 mm show the whole trunk.
    """
    random = np.random.default_rng(seed)
    body = _Body(random, shape, spacing_mm)
    labels = _draw(body, random)
    hu = _paint(labels, body, random)
    extent = [size * step for size, step in zip(shape, spacing_mm, strict=True)]
    geometry = Geometry.from_parts(shape, spacing_mm, (-extent[2] / 2, -extent[1] / 2, -extent[0] / 2))
    return Phantom(Volume(hu, geometry), Volume(labels, geometry))


Point = tuple[Number, Number, Number]


class _Body:
    """Warped coordinates in mm: s points upwards from the middle, p backwards, l to the patient's left."""

    def __init__(self, random: np.random.Generator, shape: Shape3, spacing_mm: tuple[float, float, float]) -> None:
        self.spacing_mm = spacing_mm
        axes = [
            (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(step)
            for size, step in zip(shape, spacing_mm, strict=True)
        ]
        s, p, left = np.meshgrid(*axes, indexing="ij", sparse=True)
        wave = [random.uniform(0, 2 * np.pi, 3) for _ in range(3)]
        self.s = s + 4 * np.sin(p / 45 + wave[0][0]) + 4 * np.sin(left / 50 + wave[0][1])
        self.p = p + 4 * np.sin(s / 55 + wave[1][0]) + 3 * np.sin(left / 40 + wave[1][1])
        self.l = left + 4 * np.sin(s / 60 + wave[2][0]) + 3 * np.sin(p / 42 + wave[2][1])
        self.size = random.uniform(0.9, 1.1)
        self.width = 158 * self.size * random.uniform(0.93, 1.05)
        self.depth = 112 * self.size * random.uniform(0.93, 1.08)
        self.diaphragm = random.uniform(-25, 15)

    def ellipsoid(self, centre: Point, radii: Point) -> Mask:
        """A warped ellipsoid; centre and radii in mm along (s, p, l), scaled with the body."""
        k = self.size
        terms = [
            ((axis - k * c) / (k * r)) ** 2 for axis, c, r in zip((self.s, self.p, self.l), centre, radii, strict=True)
        ]
        inside: Mask = terms[0] + terms[1] + terms[2] < 1
        return inside

    def shell(self) -> Grid:
        """Distance from the trunk's axis: 1 on the skin."""
        taper = 1 - 0.12 * np.clip((self.s - 90) / 100, 0, 1) - 0.06 * np.clip((-self.s - 60) / 100, 0, 1)
        distance: Grid = np.sqrt((self.p / (self.depth * taper)) ** 2 + (self.l / (self.width * taper)) ** 2)
        return distance


def _draw(body: _Body, random: np.random.Generator) -> Labels:
    """Draws the labels; later structures overwrite earlier ones."""
    number = {name: label for label, name in NAMES.items()}
    shell = body.shell()
    labels = np.zeros(shell.shape, dtype=np.uint8)

    def jitter(scale_mm: float = 6.0) -> float:
        return float(random.uniform(-scale_mm, scale_mm))

    labels[shell < 1] = number["fat"]
    labels[shell < 0.86 + random.uniform(-0.04, 0.04)] = number["muscle"]
    cavity = shell < 0.74
    labels[cavity & (body.s < body.diaphragm) & (body.p < 40)] = number["fat"]
    top = body.diaphragm
    lungs = {
        "lung_right": body.ellipsoid((top + 60, 2 + jitter(), -70 + jitter()), (95, 82, 55)),
        "lung_left": body.ellipsoid((top + 58, 6 + jitter(), 72 + jitter()), (92, 78, 50)),
    }
    dome = body.s > top + 18 * np.cos(np.clip(body.l / 60, -1.5, 1.5)) - 10
    for name, lung in lungs.items():
        labels[lung & dome & cavity] = number[name]
    all_lungs = (labels == number["lung_right"]) | (labels == number["lung_left"])
    labels[_vessels(body, random, all_lungs) & all_lungs] = number["lung_vessel"]
    labels[body.ellipsoid((top + 32, -28 + jitter(), 18 + jitter()), (46, 42, 50))] = number["heart"]
    below = body.s < top + 8
    labels[body.ellipsoid((top - 28, -8 + jitter(), -62 + jitter()), (58, 72, 78)) & cavity & below] = number["liver"]
    labels[body.ellipsoid((top - 30, 38 + jitter(), 88), (38, 34, 24)) & cavity] = number["spleen"]
    labels[body.ellipsoid((top - 85 + jitter(), 48, -56), (48, 24, 26)) & cavity] = number["kidney_right"]
    labels[body.ellipsoid((top - 75 + jitter(), 48, 56), (50, 24, 26)) & cavity] = number["kidney_left"]
    labels[body.ellipsoid((top - 25, -48 + jitter(), 50), (20, 18, 30)) & cavity] = number["stomach_gas"]
    spine_p = 0.62 * body.depth
    aorta = (body.p - spine_p + 32) ** 2 + (body.l - 16 - 6 * np.sin(body.s / 50)) ** 2 < (11 * body.size) ** 2
    labels[aorta & (body.s < top + 90)] = number["aorta"]
    _draw_bones(labels, body, shell, spine_p, random)
    return labels


def _draw_bones(
    labels: Labels,
    body: _Body,
    shell: Grid,
    spine_p: float,
    random: np.random.Generator,
) -> None:
    number = {name: label for label, name in NAMES.items()}
    pitch = 27 * body.size
    phase = (body.s + random.uniform(0, pitch)) % pitch
    column = ((body.p - spine_p) / 16) ** 2 + (body.l / 21) ** 2 < body.size**2
    labels[column] = number["vertebra"]
    labels[column & (phase < 6 * body.size)] = number["disc"]
    arch = ((body.p - spine_p - 26) / 15) ** 2 + (body.l / 17) ** 2 < body.size**2
    process = (np.abs(body.l) < 4) & (body.p > spine_p + 20) & (body.p < spine_p + 48) & (phase > 14)
    labels[(arch & (phase > 9)) | (process & (shell < 0.95))] = number["vertebra"]
    canal = (body.p - spine_p - 25) ** 2 + body.l**2 < (9 * body.size) ** 2
    labels[canal] = number["spinal_canal"]
    # Ribs run in the chest wall, falling from the spine to the front.
    angle = np.arctan2(np.abs(body.l), body.p)
    wall = (shell > 0.76) & (shell < 0.83)
    level = (body.s + 34 * angle) % (pitch * 0.95)
    ribs = wall & (level < 9 * body.size) & (body.s > body.diaphragm - 60) & (angle > 0.25) & (angle < 2.6)
    labels[ribs] = number["rib"]


def _vessels(body: _Body, random: np.random.Generator, lungs: Mask) -> Mask:
    """Branching tubes from the hilum of each lung outwards."""
    centres = {radius: np.zeros(lungs.shape, dtype=bool) for radius in (1.5, 2.5, 4.0, 6.0)}
    half = [size * step / 2 for size, step in zip(lungs.shape, body.spacing_mm, strict=True)]
    for side in (-1, 1):
        start = np.array([body.diaphragm + 55, 12.0, side * 30.0]) * body.size
        stack = [(start, np.array([random.normal(0, 0.3), random.normal(0, 0.3), side]), 6.0, 5) for _ in range(5)]
        while stack:
            origin, heading, radius, depth = stack.pop()
            heading = heading / np.linalg.norm(heading)
            length = random.uniform(14, 26)
            points = origin + heading * np.linspace(0, length, 24)[:, None]
            kind = min(centres, key=lambda known: abs(known - radius))
            index = np.rint((points + half) / body.spacing_mm - 0.5).astype(int)
            index = index[((index >= 0) & (index < lungs.shape)).all(axis=1)]
            centres[kind][tuple(index.T)] = True
            if depth:
                spread = [heading + random.normal(0, 0.55, 3) for _ in range(2 + (depth == 5))]
                stack += [(points[-1], turn, radius * 0.72, depth - 1) for turn in spread]
    tubes = np.zeros(lungs.shape, dtype=bool)
    for radius, centre in centres.items():
        if centre.any():
            tubes |= ndimage.distance_transform_edt(~centre, sampling=body.spacing_mm) <= radius
    return tubes


def _paint(labels: Labels, body: _Body, random: np.random.Generator) -> Int16[np.ndarray, "d h w"]:
    """HU of the labels, with cortical bone, texture, scanner blur and noise."""
    table = np.full(len(NAMES) + 1, float(AIR_HU + 24), dtype=np.float32)
    for label, name in NAMES.items():
        table[label] = HU[name] + random.normal(0, 8)
    hu = table[labels]
    bone = (labels == 12) | (labels == 14)
    core = ndimage.binary_erosion(bone, iterations=1)
    hu[bone & ~core] = CORTICAL_HU
    texture = ndimage.gaussian_filter(random.standard_normal(labels.shape, dtype=np.float32), 2.5)
    hu += texture * np.where(labels > 0, 8 / texture.std(), 0).astype(np.float32)
    hu = ndimage.gaussian_filter(hu, [0.8 / step for step in body.spacing_mm])
    hu += ndimage.gaussian_filter(random.standard_normal(labels.shape, dtype=np.float32), 0.5) * NOISE_HU
    rounded: np.ndarray[Any, Any] = np.rint(np.clip(hu, AIR_HU, 3071)).astype(np.int16)
    return rounded
