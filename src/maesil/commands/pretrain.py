"""`maesil pretrain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from maesil.allocator import EVERYTHING, keep_freed_memory
from maesil.commands.early import HELP, require_begun, value_of
from maesil.commands.parsing import Settings, console, lists, parse, print_json
from maesil.config import RunConfig, load_yaml
from maesil.errors import ConfigError
from maesil.files import quoted
from maesil.masking import MASKINGS
from maesil.models import MODELS, MAEConfig
from maesil.presets import PRESETS
from maesil.presets.baselines import baseline
from maesil.presets.ours import ON_VOXELS
from maesil.runs.checkpoints import checkpoint_of, steps_done


@lists(presets=PRESETS, models=MODELS, maskings=MASKINGS)
@dataclass(frozen=True)
class Pretrain:
    """Pre-train a model on a store: maesil pretrain PRESET --data.store STORE --run RUN.

    Most runs set --data.store and --run; many --train.steps, --train.batch, --data.holdout.by, --init or --seed. All
    settings follow the examples, by section: data, masking, model, train, monitor (logging, validation), efficiency.

    PRESET is one of: {presets}; --config FILE replaces it. Every setting is a flag; the defaults shown are PRESET's,
    or those of base if none is given. Values of --model.name: {models}; of --masking.name: {maskings}. The same
    command resumes an interrupted run (Ctrl-C, SIGTERM, a kill) from its last checkpoint; so does --run RUN alone, with
    the settings of the run.

    Examples:
      maesil pretrain base --data.store store --run runs/base
      maesil pretrain small --data.store store --run runs/mine                (on a CPU)
      maesil pretrain paper --data.store store --run runs/paper --train.batch 8 --efficiency.compile
      maesil pretrain base --data.store store --run runs/uniform --masking.name uniform --masking.mask-ratio 0.6
      maesil pretrain base --data.store store --run runs/sharp --model.fusion.network voxels   (a larger fusion)
      maesil pretrain base --model.name vae --data.store store --run runs/vae --model.kl-per-voxel 1
      maesil pretrain --run runs/base                                        (resumes the run with its own settings)
      maesil pretrain --run runs/base --train.steps 100000                   (makes it longer, finished or not)
      maesil pretrain base --data.store more --run runs/more --init runs/base  (starts from its weights)
      maesil pretrain --config runs/base/config.yaml --run runs/again --seed 1
      torchrun --nproc-per-node 8 -m -- maesil pretrain paper --data.store store --run runs/paper
    """

    config: Settings[RunConfig]
    """The run's settings."""
    run: Path | None = None
    """The run folder to write or to resume."""
    json: bool = False
    """Print the outcome as JSON on standard output, and no next command."""


def main(words: Sequence[str]) -> int:
    """Starts or resumes a run."""
    base, rest = starting_point(list(words))
    call = parse(Pretrain, "pretrain", rest, Pretrain(config=base))
    if call.run is None:
        raise ConfigError("no run folder is given", fix="--run RUN, a new folder or a run to resume")
    from maesil import pipeline

    keep_freed_memory(EVERYTHING)  # this process does nothing but train
    screen = console()
    outcome = pipeline.pretrain(call.config, call.run, console=screen)
    screen.print(f"{outcome.status} at step {outcome.step} of {outcome.steps}: {outcome.run}", markup=False)
    if outcome.status == "interrupted":
        screen.print("the same command resumes it")
    elif not call.json:
        _print_next(screen, call.config, outcome.run)
    if call.json:
        print_json(vars(outcome))
    return 1 if outcome.status == "interrupted" else 0


def _print_next(screen: Console, config: RunConfig, run: Path) -> None:
    """Prints the command that evaluates the run, if any patient is held out."""
    from maesil.sampling.regions import split_to_score
    from maesil.store.scanstore import ScanStore

    split = split_to_score(ScanStore(config.data.store or Path()), config.data, config.model.superpatch)
    if split is not None:
        flag = "" if split == "test" else f" --split {split}"
        screen.print(f"next: maesil evaluate {quoted(run)}{flag}", markup=False)


def starting_point(words: list[str], command: str = "pretrain") -> tuple[RunConfig, list[str]]:
    """The preset or file that the flags modify, with the model and masking they name; and the remaining arguments.

    With neither, these are the settings of the run itself.

    Args:
        words: The arguments after the command's name.
        command: The command's name, for the error message.
    """
    if words and not words[0].startswith("-"):
        preset, rest = PRESETS[words[0]](), words[1:]
        config = with_fusion(preset, rest)
    elif (file := value_of(words, "--config")) is not None:
        config, rest = load_yaml(Path(file)), _without(words, "--config")
    elif HELP & set(words):
        config, rest = PRESETS["base"](), words
    else:
        config, rest = _settings_of(value_of(words, "--run"), command), words
    return _with_parts(config, rest), rest


def _without(words: Sequence[str], flag: str) -> list[str]:
    """The arguments without a flag and its value, which may follow "=" or be the next argument."""
    pairs = pairwise(["", *words])
    return [word for before, word in pairs if flag not in (before, word) and not word.startswith(f"{flag}=")]


def _settings_of(run: str | None, command: str) -> RunConfig:
    """A run's own settings.

    Raises:
        ConfigError: There is no such run.
        CheckpointError: It is of another kind of run.
    """
    settings = require_begun(run, command)
    if steps_done(settings.parent):
        checkpoint_of(settings.parent)
    return load_yaml(settings)


def _with_parts(config: RunConfig, words: Sequence[str]) -> RunConfig:
    """Replaces masking and model as named: each has flags of its own, so they must be known before parsing."""
    model, masked = value_of(words, "--model.name"), with_masking(config, words)
    return masked if model is None else baseline(model, masked)


def with_fusion(preset: RunConfig, words: Sequence[str]) -> RunConfig:
    """Replaces a preset's fusion by one on voxels as it was tried, if that is named."""
    model = preset.model
    if value_of(words, "--model.fusion.network") != "voxels" or not isinstance(model, MAEConfig):
        return preset
    return replace(preset, model=replace(model, fusion=ON_VOXELS))


def with_masking(config: RunConfig, words: Sequence[str]) -> RunConfig:
    """Replaces the masking by the named one, at its default ratios, if one is named."""
    named = value_of(words, "--masking.name")
    return config if named is None else replace(config, masking=MASKINGS[named]())
