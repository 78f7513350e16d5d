"""How scans are prepared: part of a store's identity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.datasets.labels import read_names
from maesil.errors import ConfigError
from maesil.store.layout import HIGHEST_HU, LOWEST_HU

Codec = Literal["lz4", "zstd", "none"]


@dataclass(frozen=True)
class PrepareConfig:
    """Resampling, layout and naming of a store.

    Args:
        policy: Resample to isotropic "spacing" or to a "cube" of voxels (as the paper has it), or keep "native" ones.
        spacing_mm: Edge of a voxel, for "spacing".
        cube: Voxels along each axis, for "cube".
        chunk: Edge of the smallest readable block; divides the shard.
        shard: Edge of a file's block; a multiple of 16.
        codec: How chunks are compressed: "lz4" reads fastest, "zstd" takes a tenth less room and longer to read, "none"
            is for disks that are faster than the processor.
        dataset: The collection's name; None: each source's folder name, where that can be no patient's.
        hash_names: Keep no case name of volume files either; DICOM is always known by salted hashes.
        patient_pattern: Regular expression that finds the patient in a volume file's path below its source, such as
            "^([^/]+)/" for the first folder; None: every case is a patient. DICOM says itself whose a scan is.
        layout: What the sources are, where it is known: btcv, lidc, totalsegmentator, nnunet or folder; None: each is
            taken for what its files match.
        salt: Makes the hashes; None: a random one of yours, kept in your configuration folder.
        labels: Write the scans' segmentations beside them, for downstream tasks; scans that were prepared without are
            prepared again.
        label_names: What the numbers of label files mean: JSON {"1": "liver"}, or CSV with the columns id and name.
    """

    policy: Literal["spacing", "cube", "native"] = "spacing"
    spacing_mm: PositiveFloat = 1.5
    cube: PositiveInt = 512
    chunk: PositiveInt = 32
    shard: PositiveInt = 128
    codec: Codec = "lz4"
    dataset: str | None = None
    hash_names: bool = False
    patient_pattern: str | None = None
    layout: str | None = None
    salt: str | None = None
    labels: bool = False
    label_names: Path | None = None

    def __post_init__(self) -> None:
        if self.shard % self.chunk or self.shard % 16:
            raise ConfigError(
                f"chunk {self.chunk} and shard {self.shard} do not fit",
                fix="the shard is a multiple of the chunk and of 16; chunks that divide a superpatch read fastest",
            )

    def named_labels(self) -> dict[int, str]:
        """Number to structure, from the file that was given."""
        return read_names(self.label_names) if self.label_names is not None else {}

    def recorded(self) -> dict[str, Any]:
        """What a store keeps of them: everything that decides its bytes, no salt."""
        sizes: dict[str, dict[str, Any]] = {"spacing": {"spacing_mm": self.spacing_mm}, "cube": {"cube": self.cube}}
        return {
            "policy": self.policy,
            **sizes.get(self.policy, {}),
            "orientation": "SPL",
            "clip_hu": [LOWEST_HU, HIGHEST_HU],
            "chunk": self.chunk,
            "shard": self.shard,
            "codec": self.codec,
        }


def voxels(recorded: Mapping[str, Any]) -> str:
    """What the voxels of a store are, in words.

    Args:
        recorded: Settings as `PrepareConfig.recorded` gives them.
    """
    if recorded.get("policy") == "spacing":
        return f"{recorded['spacing_mm']:g} mm isotropic"
    return f"resampled to {recorded['cube']}^3" if recorded.get("policy") == "cube" else "as the scans have them"
