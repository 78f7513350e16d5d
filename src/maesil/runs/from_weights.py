"""Weights that a new run starts from: those of another run, of an exported encoder, or published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maesil.catalog import NONE
from maesil.config import RunConfig, to_dict
from maesil.counts import count_of
from maesil.errors import CheckpointError, ConfigError, reason
from maesil.files import sha256_of
from maesil.models import Pretrainer
from maesil.nested import flat
from maesil.runs.checkpoints import checkpoint_of
from maesil.runs.exported import read_exported
from maesil.runs.kinds import EXPORTED
from maesil.runs.published import is_published, published
from maesil.store.settings import grid_of, grids_against, grids_of
from maesil.training.checkpoint_folder import WEIGHTS

ENCODER = "encoder."
"""Prefix of the encoder's tensors, in a model and in an export."""
SHOWN = 3
"""Number of tensors that an error lists."""


@dataclass(frozen=True)
class Initial:
    """Weights to start from, and where they come from.

    Attributes:
        weights: Tensors by name.
        preset: Preset of the run that trained them.
        step: Number of steps that they were trained for.
        voxels: How the scans were resampled, as in a store's settings.
        seen: Record of the patients that were seen, from `maesil.seen`; None: unknown.
        network: Settings of the model, and the HU window that it sees, by dotted name.
        sha256: Digest of the file that they were read from.
        store: Fingerprint of the store that they were trained on; None: unknown.
        holdout: Settings of what their run held out, and its superpatch; None: unknown.
        loaded: What of the weights was loaded; empty before.
    """

    weights: Mapping[str, Tensor]
    preset: str
    step: int
    voxels: Mapping[str, Any]
    seen: Mapping[str, Any] | None
    network: Mapping[str, Any]
    sha256: str | None
    store: str | None = None
    holdout: Mapping[str, Any] | None = None
    loaded: str = ""

    def record(self) -> dict[str, Any]:
        """What a checkpoint's config.json says of them."""
        return {"loaded": self.loaded, "preset": self.preset, "step": self.step, "sha256": self.sha256}


def with_absolute_init(config: RunConfig) -> RunConfig:
    """The configuration with the absolute path of the weights that it starts from; a name stays as it is."""
    if config.init == NONE or is_published(config.init):
        return config
    return replace(config, init=str(Path(config.init).resolve()))


def initial_of(source: str) -> Initial:
    """The weights of a run, of a checkpoint, of an exported encoder, or published ones by their name.

    Raises:
        CheckpointError: There is no such folder, it has no weights, or it is of another kind of run; or published
            weights differ from their checksums.
        DownloadError: Published weights cannot be fetched.
    """
    folder = published(source) if is_published(source) else Path(source)
    if (folder / EXPORTED).is_file():
        card = read_exported(folder)
        model, window = card["model"], {end: card[end] for end in ("low_hu", "high_hu")}
        about = {"preset": card["preset"], "voxels": card["voxels"], "seen": card.get("seen")}
        step = card["step"]
    else:
        folder, record = checkpoint_of(folder)
        config, step = record["config"], record["step"]
        model, window = config["model"], config["data"]["window"]
        about = {"preset": config["preset"], "voxels": record["prepare"], "seen": record.get("seen")}
        about["store"] = record.get("store")
        about["holdout"] = {**config["data"]["holdout"], "superpatch": model.get("superpatch")}
    file = folder / WEIGHTS
    return Initial(_weights(file), step=int(step), network=_network(model, window), sha256=sha256_of(file), **about)


def _network(model: Mapping[str, Any], window: Mapping[str, Any]) -> dict[str, Any]:
    return dict(flat({"model": model, "data": {"window": window}}))


def started(config: RunConfig, model: Pretrainer) -> Initial | None:
    """Loads the weights that a new run starts from into its model; None: it starts from random ones.

    Raises:
        CheckpointError: There are no such weights, or they do not fit.
        ConfigError: A part of the network would stay random, or be frozen on another network than it was trained on.
    """
    if config.init == NONE:
        check_network_learns(model)
        return None
    initial = start_from(model, initial_of(config.init), config.init)
    check_same_network(model, initial, config)
    return initial


def start_from(model: Pretrainer, initial: Initial, source: str) -> Initial:
    """Copies the weights into a model: all that fit, if at most those of its last stage do not, or else the encoder's.

    Raises:
        CheckpointError: The encoder's weights do not fit; the message lists the tensors.
        ConfigError: The encoder's alone fit, and the rest of the network would stay random.
    """
    own, given = model.state_dict(), initial.weights
    fits = {name for name, tensor in own.items() if name in given and given[name].shape == tensor.shape}
    encoder = {name for name in own if name.startswith(ENCODER)}
    loaded = _in_words(set(own) - fits, model)
    if loaded is None:
        wrong = sorted((encoder | {name for name in given if name.startswith(ENCODER)}) - fits)
        if wrong or not encoder:
            listed = ", ".join(wrong[:SHOWN]) or "the model has no encoder of its own"
            raise CheckpointError(
                f"the encoder's weights do not fit this model: {listed}",
                where=source,
                fix="start from a run of the same preset, or give the settings of its model (--model...)",
            )
        check_network_learns(model)
        fits, loaded = encoder, "the encoder's weights"
    elif fits != set(own):
        fits -= _last_part(model)  # some of a fusion of another width fit, and are worth nothing alone
    model.load_state_dict({name: given[name] for name in fits}, strict=False)
    return replace(initial, loaded=f"{loaded} ({count_of(len(fits), 'tensor')} of {len(own)})")


def check_network_learns(model: Pretrainer) -> None:
    """Refuses a run whose last stage takes all steps, while weights below it are random.

    Raises:
        ConfigError: The stage takes all steps.
    """
    stage = model.last_stage
    if stage is not None and stage.takes_all:
        raise ConfigError(
            f"the {stage.name} alone would be trained, and weights of the network below it are random",
            fix=f"--init RUN, a run of the same network, or --model.{stage.name}.share below 1",
        )


def check_same_network(model: Pretrainer, initial: Initial, config: RunConfig) -> None:
    """Refuses to freeze a network whose weights were trained with other settings: they may fit, and mean another thing.

    Raises:
        ConfigError: The last stage takes all steps, and settings of the model or its HU window differ.
    """
    stage = model.last_stage
    if stage is None or not stage.takes_all:
        return
    settings = to_dict(config)
    own = _network(settings["model"], settings["data"]["window"])
    # Settings that the weights' version did not have are at the defaults that keep its network.
    changed = [
        key
        for key, value in initial.network.items()
        if not key.startswith(f"model.{stage.name}.") and own.get(key) != value
    ]
    if changed:
        raise ConfigError(
            f"the {stage.name} alone would be trained, on a network that was trained with other settings: "
            f"{', '.join(changed)}",
            fix=f"start from the preset of the run that --init names, or --model.{stage.name}.share below 1",
        )


def _in_words(missing: set[str], model: Pretrainer) -> str | None:
    """What is loaded without these tensors; None if more is missing than the part that a run's last stage trains."""
    if not missing:
        return "all weights"
    stage = model.last_stage
    return f"all weights but the {stage.name}'s" if stage is not None and missing <= _last_part(model) else None


def _last_part(model: Pretrainer) -> set[str]:
    """Names of the tensors that a run's last stage trains."""
    stage = model.last_stage
    if stage is None:
        return set()
    part = next(name for name, module in model.named_modules() if module is stage.part)
    return {name for name in model.state_dict() if name.startswith(f"{part}.")}


def other_voxels(initial: Initial, settings: Mapping[str, Any]) -> str | None:
    """A warning if the weights were trained on other voxels than a store's; None if not."""
    if grid_of(settings) in grids_of(initial.voxels):
        return None
    theirs, both = initial.voxels, grids_against(initial.voxels, settings)
    theirs_mm = theirs.get("spacing_mm") if theirs.get("policy", "spacing") == "spacing" else None
    fix = f"; `maesil prepare ... --spacing-mm {theirs_mm:g}` makes a store like theirs" if theirs_mm else ""
    return f"the weights were trained on other voxels than the store's: {both}{fix}"


def _weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        fix = "for an export: maesil export RUN --to safetensors --out DIR"
        raise CheckpointError(f"the weights cannot be read: {reason(error)}", where=file, fix=fix) from error
