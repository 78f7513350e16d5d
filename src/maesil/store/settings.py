"""How scans are prepared: these settings are part of a store's identity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.datasets.labels import read_names
from maesil.errors import ConfigError
from maesil.store.format import HIGHEST_HU, LOWEST_HU

Codec = Literal["lz4", "zstd", "none"]


@dataclass(frozen=True)
class PrepareConfig:
    """Resampling, layout and naming of a store.

    Args:
        policy: Voxel grid: isotropic "spacing", a "cube" of voxels (as in the paper), or the "native" one.
        spacing_mm: Edge of a voxel in mm, for "spacing".
        cube: Number of voxels along each axis, for "cube".
        chunk: Edge of the smallest readable block in voxels; must divide the shard.
        shard: Edge of the block in one file, in voxels; a multiple of 16.
        codec: Compression of chunks: "lz4" reads fastest, "zstd" is a tenth smaller but slower to read, "none" is for
            disks that are faster than the processor.
        dataset: Name of the collection; None: the folder name of each source, unless it may be a patient's name.
        hash_names: Whether to replace all names of scans and patients by salted hashes. By default, those that may tell
            who a patient is are replaced: all names of DICOM scans outside public collections, and names of volume
            files and folders that are not recognisably harmless.
        keep_names: Whether to keep the names of all volume files and folders, those that may name a patient, too.
        patient_pattern: Regular expression that finds the patient in a volume file's path below its source, such as
            "^([^/]+)/" for the first folder; None: every case is a patient. DICOM files name the patient themselves.
        layout: Layout of the sources, if known, a name that `maesil datasets --help` lists; None: recognised from the
            files of each source.
        salt: Secret that the hashes are made with; None: a random one, kept in your configuration folder.
        labels: Whether to store the scans' segmentations, for downstream tasks; scans that were prepared without them
            are prepared again.
        accept_any_values: Whether to prepare scans whose values cannot be Hounsfield units, such as other modalities,
            labels, or CT that was clipped at 0 HU or stored with an offset. The manifest records what was seen.
        replace: Whether to replace scans of the store whose files have changed, or whose name now stands for other
            files; by default the store keeps what it has, and these files are listed as left out. Changed label files
            need no such permission.
        options: Scans that are refused otherwise. The manifest records the options that a scan was read with.
        labels_on_another_grid: What to do with labels whose voxels are not the scan's: refuse the scan, or resample
            them to its voxels by their own affine, to the nearest voxel.
        label_names: File that names the numbers of label files: JSON {"1": "liver"}, or CSV with columns id and name;
            None: label_names.json beside the label files or in a folder above them, up to the source, if there is one.
            Numbers of one name become one structure.
        missing_labels: Meaning of a structure that has a name and no voxel in a scan's labels. "absent": it is not in
            the scan; "unmarked": nobody marked it there, as in collections where every patient has some of the
            organs. It is then taught and scored in other scans only (--labels.partial). Not for structures that may
            truly be absent, such as tumours: what is found in scans without them would not be scored.
    """

    policy: Literal["spacing", "cube", "native"] = "spacing"
    spacing_mm: PositiveFloat = 1.5
    cube: PositiveInt = 512
    chunk: PositiveInt = 32
    shard: PositiveInt = 128
    codec: Codec = "lz4"
    dataset: str | None = None
    hash_names: bool = False
    keep_names: bool = False
    patient_pattern: str | None = None
    layout: str | None = None
    salt: str | None = None
    labels: bool = False
    label_names: Path | None = None
    missing_labels: Literal["absent", "unmarked"] = "absent"
    accept_any_values: bool = False
    labels_on_another_grid: Literal["refuse", "resample"] = "refuse"
    replace: bool = False
    options: ReadOptions = STRICT

    def __post_init__(self) -> None:
        if self.shard % self.chunk or self.shard % 16:
            raise ConfigError(
                f"chunk {self.chunk} and shard {self.shard} do not fit together",
                fix="make the shard a multiple of the chunk and of 16; chunks that divide a superpatch read fastest",
            )

    def named_labels(self) -> dict[int, str]:
        """Map from number to structure, from the given file."""
        return read_names(self.label_names) if self.label_names is not None else {}

    def recorded(self) -> dict[str, Any]:
        """The settings that a store records: everything that decides its bytes, but not the salt."""
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


def grid_of(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the voxels' size, of settings from `PrepareConfig.recorded`."""
    return {key: recorded[key] for key in ("policy", "spacing_mm", "cube") if recorded.get(key) is not None}


def grids_of(recorded: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The voxels' sizes of one store or, with those under "also", of several."""
    return [grid_of(each) for each in (recorded, *recorded.get("also", ()))]


def grids_against(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Two stores' voxel sizes, in words, for a message."""
    return " against ".join(
        ", ".join(f"{key} {value}" for key, value in grid_of(each).items()) for each in (theirs, ours)
    )


def voxels(recorded: Mapping[str, Any]) -> str:
    """A description of a store's voxels.

    Args:
        recorded: Settings from `PrepareConfig.recorded`.
    """
    if recorded.get("also"):
        return " and ".join(dict.fromkeys(voxels({**each, "also": ()}) for each in (recorded, *recorded["also"])))
    if recorded.get("policy") == "spacing":
        return f"{recorded['spacing_mm']:g} mm isotropic"
    return f"resampled to {recorded['cube']}^3" if recorded.get("policy") == "cube" else "as the scans have them"
