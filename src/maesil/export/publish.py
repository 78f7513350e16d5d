"""Published weights: the whole network of a run in fp16, small enough for the package, with its card and checksums."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from maesil.encoder.card import WEIGHTS, Transfer, model_card
from maesil.errors import CheckpointError, ConfigError
from maesil.export.earlier import OTHER_FOLDER
from maesil.export.targets import replace_folder
from maesil.files import AnyPath, as_umask_allows, sha256_of, write_text
from maesil.models.mae import MaskedAutoencoder
from maesil.runs.load import load_run
from maesil.runs.published import LARGEST_BYTES, SUMS, write_sums
from maesil.training.checkpoint_folder import CONFIG

LICENCE = "apache-2.0"
"""Licence of published weights: the project's own."""

USAGE = """
import maesil

encoder = maesil.load("{name}")
vector = encoder.embed("scan.nii.gz").vector  # ({width},) float32
"""


@dataclass(frozen=True)
class Published:
    """What `publish` wrote.

    Attributes:
        folder: The folder.
        whole: Whether the decoder is in it, so that `reconstruct`, `evaluate` and `pretrain --init` can use it.
        size: Size of the weights in bytes.
        digest: SHA-256 of its checksums, for `published.json`.
    """

    folder: Path
    whole: bool
    size: int
    digest: str


def publish(run: AnyPath, out: AnyPath, about: AnyPath, *, checkpoint: Literal["last", "best"] = "last") -> Published:
    """Writes a folder of weights that others can load by its name: fp16, at most 30 MB.

    The folder is a checkpoint of the run (config.json, model.safetensors) with transfer.json, a card (README.md) and
    SHA256SUMS. If the whole network is too large, it has the encoder alone.

    Args:
        run: A run of the masked autoencoder, or one of its checkpoints.
        out: The folder to write, new or from an earlier call with the same weights; its name is that of the weights.
        about: Markdown file for the card: data with their licences, scores with their protocol, command, cost, limits.
        checkpoint: Which of the run's checkpoints to publish.

    Raises:
        CheckpointError: The run has no encoder of the masked autoencoder, or its weights are too large or not finite.
        ConfigError: The text does not name a licence, or the folder has something else or other weights in it.
    """
    out, text = Path(out).resolve(), _text(Path(about))  # "." has no name, and a link is not a folder to replace
    if out.exists() and not out.is_dir():
        raise ConfigError("this is a file, and a folder would be written", where=out, fix="give the name of a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / SUMS).is_file():
        raise ConfigError("this folder is neither empty nor published weights", where=out, fix="give a new folder")
    loaded = load_run(Path(run), checkpoint=checkpoint, device="cpu")
    card = replace(Transfer.from_record(loaded.record), target="maesil.load", weights={WEIGHTS: "encoder."})
    assert isinstance(loaded.model, MaskedAutoencoder)
    tensors, whole = _halves(loaded.model, Path(run))
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
        _require_same_file(out, draft)
        as_umask_allows(draft / WEIGHTS)
        if whole:
            write_text(draft / CONFIG, json.dumps(dict(loaded.record), indent=2, sort_keys=True) + "\n")
        card.write(draft)
        usage = USAGE.format(name=out.name, width=card.config().encoder_width)
        write_text(draft / "README.md", f"{model_card(card, usage, LICENCE)}\n{text}\n")
        digest = write_sums(draft)
        replace_folder(out, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Published(out, whole, (out / WEIGHTS).stat().st_size, digest)


def _require_same_file(out: Path, draft: Path) -> None:
    """Refuses a folder with weights that are published there, and are not those of the draft."""
    there = sha256_of(out / WEIGHTS)
    if there is None or there == sha256_of(draft / WEIGHTS):
        return
    try:
        held = Transfer.read(out)
        told = f", from preset {held.preset}, step {held.step}"
    except CheckpointError:
        told = ""
    raise ConfigError(f"this folder has other weights{told}", where=out, fix=OTHER_FOLDER)


def _text(about: Path) -> str:
    try:
        text = about.read_text(encoding="utf-8").strip()
    except OSError as error:
        fix = "give a Markdown file on the data, the scores, the cost and the limits"
        raise ConfigError(f"the text for the card cannot be read: {error.strerror}", where=about, fix=fix) from error
    if "licen" not in text.lower():
        fix = "name the licence of every training scan, with the attribution that it asks for"
        raise ConfigError("the text for the card says nothing about licences", where=about, fix=fix)
    return text


def _halves(model: MaskedAutoencoder, run: Path) -> tuple[dict[str, Tensor], bool]:
    """The network's tensors in fp16, or the encoder's alone if they are too large; and whether it is all of them."""
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in model.state_dict().items()}
    broken = [name for name, tensor in halves.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{broken[0]} is not finite in fp16", where=run, fix="these weights cannot be published")
    encoder = {name: tensor for name, tensor in halves.items() if name.startswith("encoder.")}
    for tensors in (halves, encoder):
        if sum(tensor.nbytes for tensor in tensors.values()) <= LARGEST_BYTES * 0.99:
            return tensors, tensors is halves
    size = sum(tensor.nbytes for tensor in encoder.values()) / 1e6
    raise CheckpointError(
        f"the encoder takes {size:.0f} MB in fp16, more than {LARGEST_BYTES / 1e6:.0f} MB", where=run,
        fix="publish a smaller preset, or export it: maesil export RUN --to huggingface",
    )  # fmt: skip
