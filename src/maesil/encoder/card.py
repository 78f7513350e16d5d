"""The description that accompanies exported weights: `transfer.json` for programs, a model card for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor

from maesil.config import explain
from maesil.errors import CheckpointError
from maesil.files import as_umask_allows, write_text
from maesil.models import MAEConfig
from maesil.models.backbone import Backbone
from maesil.runs.exported import FORMAT, read_exported
from maesil.runs.kinds import EXPORTED
from maesil.store.settings import voxels

WEIGHTS = "model.safetensors"

_MODEL = TypeAdapter(MAEConfig)


@dataclass(frozen=True)
class Transfer:
    """Everything needed to use the weights.

    Attributes:
        model: The network's settings (`MAEConfig`): superpatch, patch, widths, depths, heads, input mean and deviation.
        low_hu: HU value that is mapped to 0.
        high_hu: HU value that is mapped to 1.
        voxels: How scans were resampled: policy and spacing, as in a store's settings.
        masking: Strategy and ratios of the pre-training.
        datasets: Number of training scans per dataset; held-out patients are excluded.
        preset: Preset the run started from.
        maesil: Version of maesil that trained the encoder.
        commit: Git commit of that version, if known.
        step: Optimiser steps done.
        target: Target this folder was exported for.
        weights: Weight file's name to the prefix of the encoder's tensors in it.
        notes: Further information for the target.
        seen: The training patients, without their names, in the form `maesil.seen` reads; None: unknown.
    """

    model: Mapping[str, Any]
    low_hu: float
    high_hu: float
    voxels: Mapping[str, Any]
    masking: Mapping[str, Any]
    datasets: Mapping[str, int]
    preset: str
    maesil: str
    commit: str | None
    step: int
    orientation: str = "SPL"
    target: str = "safetensors"
    weights: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, Any] | None = None
    format: int = FORMAT

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Transfer:
        """From a checkpoint's config.json.

        Raises:
            CheckpointError: The checkpoint's model has no transferable encoder.
        """
        config = record["config"]
        if config["model"].get("name", "maesil") != "maesil":
            raise CheckpointError(
                f"this run trained the baseline '{config['model']['name']}', whose encoder has no downstream form",
                fix="export a run of the masked autoencoder (model 'maesil')",
            )
        window = config["data"]["window"]
        prepared = record["prepare"]
        return Transfer(
            model=dict(config["model"]),
            low_hu=window["low_hu"],
            high_hu=window["high_hu"],
            voxels=dict(prepared),
            masking=dict(config["masking"]),
            datasets=dict(record["datasets"]),
            preset=config["preset"],
            maesil=record["maesil"],
            commit=record.get("commit"),
            step=int(record.get("step", 0)),
            seen=record.get("seen"),
        )

    @staticmethod
    def read(folder: Path) -> Transfer:
        """Reads a folder's transfer.json.

        Raises:
            CheckpointError: The file is absent, damaged, or in a newer format.
        """
        try:
            return Transfer(**{**read_exported(folder), "format": FORMAT})
        except TypeError as error:
            raise CheckpointError(f"{EXPORTED} was not written by maesil: {error}", where=folder / EXPORTED) from error

    def write(self, folder: Path) -> None:
        """Writes transfer.json."""
        write_text(folder / EXPORTED, json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    def config(self) -> MAEConfig:
        """The network's settings, validated."""
        try:
            return _MODEL.validate_python(dict(self.model))
        except ValidationError as error:
            wrong = explain(error, MAEConfig)
            raise CheckpointError(f"{EXPORTED}: model: {wrong.what}", fix=wrong.fix) from error

    def backbone(self) -> Backbone:
        """The network, with random weights."""
        return Backbone(self.config(), low_hu=self.low_hu, high_hu=self.high_hu)


def model_card(transfer: Transfer, usage: str, licence: str = "other") -> str:
    """The folder's README.md, with the front matter that model hubs read.

    Args:
        transfer: The description of the weights.
        usage: Lines of Python that load the weights when run in this folder.
        licence: Identifier of the weights' licence, as model hubs list them; "other": whoever shares them decides.
    """
    model = transfer.config()
    shape = "x".join(map(str, model.superpatch))
    datasets = ", ".join(f"{name} ({count})" for name, count in transfer.datasets.items()) or "unknown"
    masking = ", ".join(f"{key} {value}" for key, value in transfer.masking.items() if key != "name")
    commit = f" at {transfer.commit}" if transfer.commit else ""
    axes = f"axes Superior, Posterior, Left ({transfer.orientation})"
    return (
        f"---\nlicense: {licence}\nlibrary_name: maesil\npipeline_tag: image-feature-extraction\n"
        f"{_yaml_list('datasets', transfer.datasets)}"
        f"{_yaml_list('tags', ('medical', 'computed-tomography', '3d', 'masked-autoencoder', 'arxiv:2604.00514'))}"
        "---\n\n"
        f"# MAESIL encoder, preset `{transfer.preset}`, step {transfer.step}\n\n"
        "The encoder of a 3D masked autoencoder, pre-trained on unlabeled CT (arXiv:2604.00514) with "
        f"maesil {transfer.maesil}{commit}; exported for `{transfer.target}`.\n\n"
        "| | |\n|---|---|\n"
        f"| input | one channel, {axes}; one box (superpatch) of {shape} voxels per call |\n"
        f"| intensities | HU [{transfer.low_hu:g}, {transfer.high_hu:g}] mapped to [0, 1] and clipped |\n"
        f"| voxels | {voxels(transfer.voxels)} |\n"
        f"| tokens | {model.grid.tokens} patches of {'x'.join(map(str, model.patch))}, row-major over the axes |\n"
        f"| encoder | {model.encoder_depth} blocks, {model.encoder_width} wide, {model.encoder_heads} heads |\n"
        f"| masking | {transfer.masking.get('name', 'dual')}{f' ({masking})' if masking else ''} |\n"
        f"| trained on | scans per dataset: {datasets} |\n\n"
        f"```python\n{usage.strip()}\n```\n\n"
        f"Give the encoder boxes of {shape} voxels, as in pre-training: a scan takes several. maesil's vector of a "
        "whole scan (`embed`) is the mean over the tokens of all boxes without those of air; a mean over all tokens "
        "differs.\n\n"
        "Not a medical device.\n"
    )


def _yaml_list(key: str, values: Iterable[str]) -> str:
    quoted = [f"- {json.dumps(value)}\n" for value in values]
    return f"{key}:\n{''.join(quoted)}" if quoted else ""


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Writes tensors as safetensors: copied to the CPU, sharing no memory."""
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()},
        path,
        metadata={"format": "pt"},
    )
    as_umask_allows(path)
