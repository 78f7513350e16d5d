"""Mistakes in a call that can be told before torch is loaded: names and paths that are not there.

Everything is checked again where it is used; a check here only saves the wait for its message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from maesil.catalog import NONE, hint
from maesil.ct.readers import require_there
from maesil.ct.write import nifti_ending
from maesil.encoder.feature_file import require_features, require_table
from maesil.encoder.source import local_folder
from maesil.errors import CheckpointError, ConfigError, NoStoreError
from maesil.export import TARGETS
from maesil.extras import require
from maesil.files import quoted, read_yaml, require_json, require_output
from maesil.presets import PRESETS
from maesil.runs.checkpoints import checkpoint_of
from maesil.runs.claim import SETTINGS
from maesil.runs.kinds import EXPORTED, refuse_without_checkpoint
from maesil.runs.published import is_published, published_names
from maesil.store.format import MANIFEST
from maesil.store.location import address_of

HELP = frozenset(("-h", "--help"))
Check = Callable[[str], object]


def check(words: Sequence[str]) -> None:
    """Raises the error of the first name or path of a call that is not there.

    Args:
        words: The command and its arguments.
    """
    named = 2 if words[0] == "finetune" else 1
    checks, given = CHECKS.get(" ".join(words[:named]), {}), words[named:]
    if HELP & set(given):
        return
    if words[0] == "pretrain" and not _names_settings(given):
        require_begun(value_of(given, "--run"))
    for place, check_word in checks.items():
        word = value_of(given, place) if isinstance(place, str) else _leading(given, place)
        if word is not None:
            check_word(word)


def value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag that must be known before parsing, because it decides which other flags exist.

    A flag is no value: where it follows, the value is missing, which is answered where the call is parsed.
    """
    named = next((words[i + 1] for i, word in enumerate(words[:-1]) if word == flag), None)
    if named is not None and named.startswith("--"):
        named = None
    return next((word.split("=", 1)[1] for word in words if word.startswith(f"{flag}=")), named)


def require_begun(run: str | None, command: str = "pretrain") -> Path:
    """The settings of a run that has begun.

    Args:
        run: The run folder; None: none is given.
        command: The command that wants a preset or a run, for the error message.

    Raises:
        ConfigError: There is no such run.
    """
    path = Path(run or "") / SETTINGS
    if run is None or not path.is_file():
        names = ", ".join(PRESETS)
        fix = f"it comes first: maesil {command} PRESET ..., one of: {names}"
        if command == "pretrain":
            fix += "; a run that has begun needs only --run RUN"
        what = "no preset is given" if run is None else "no preset is given, and there is no run here that has begun"
        raise ConfigError(what, where=run, fix=fix)
    return path


def _names_settings(words: Sequence[str]) -> bool:
    """Whether a preset or a file of settings is given to `pretrain`."""
    return value_of(words, "--config") is not None or _leading(words, 0) is not None


def _leading(words: Sequence[str], place: int) -> str | None:
    """An argument before the first flag; None if there are fewer."""
    flag = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    return words[place] if place < flag else None


def _store(word: str) -> None:
    if address_of(word) is None and not (Path(word) / MANIFEST).is_file():
        from maesil.store.scanstore import ScanStore

        ScanStore(word)


def _labelled_store(word: str) -> None:
    try:
        _store(word)
    except NoStoreError as error:
        fix = "write one with `maesil prepare SCANS --labels --out STORE`, at the encoder's spacing (--spacing-mm)"
        raise NoStoreError(error.what, where=word, fix=fix) from None


def _shown(word: str) -> None:
    if word in published_names():
        refuse_without_checkpoint(Path(word))
    if address_of(word) is None:
        require_there(word)


def _further_store(word: str) -> None:
    fix = "give one; `maesil pretrain` and `maesil evaluate` take several: --data.store A B"
    raise ConfigError("this takes one store, and this is a further one", where=word, fix=fix)


def _encoder(word: str) -> None:
    if word != NONE:
        local_folder(word)


def _action(word: str) -> None:
    from maesil.store.check import Action, refuse_address

    if word in get_args(Action):
        return
    refuse_address(word)
    if not Path(word).exists():
        return  # a name that is no action is answered where it is parsed
    fix = f"maesil store check {quoted(Path(word))}; or repair, or remove with --scans"
    raise ConfigError("no action is given before the store", where=word, fix=fix)


def _weights(word: str) -> None:
    if word != NONE and not (Path(word) / EXPORTED).is_file():
        _run_or_published(word)


def _run_or_published(word: str) -> None:
    if is_published(word):
        return
    if not Path(word).exists():
        names = published_names()
        fix = (
            f"{hint(word, names)}give the folder that `maesil pretrain` wrote, or published weights: {', '.join(names)}"
        )
        raise CheckpointError("this run does not exist", where=Path(word), fix=fix)
    checkpoint_of(Path(word))


def _output(word: str) -> None:
    require_output(Path(word))


def _json(word: str) -> None:
    require_json(Path(word))


def _run(kind: str) -> Check:
    return lambda word: checkpoint_of(Path(word), kind=kind)


def _wandb(_: str) -> None:
    require("wandb", "wandb")


_TASK: Mapping[str | int, Check] = {
    "--monitor.wandb": _wandb,
    "--data.store": _store,
    "--store": _store,
    "--init": _encoder,
    "--preset": PRESETS.__getitem__,
}
_LABELLED_TASK: Mapping[str | int, Check] = {**_TASK, "--data.store": _labelled_store}
_PRETRAINED, _SEGMENTATION = _run("pre-training"), _run("segmentation")
_SETTINGS: Mapping[str | int, Check] = {
    0: PRESETS.__getitem__,
    "--config": lambda word: read_yaml(Path(word)),
    "--data.store": _store,
    "--init": _weights,
    "--monitor.wandb": _wandb,
}
CHECKS: Mapping[str, Mapping[str | int, Check]] = {
    "pretrain": _SETTINGS,
    "plan": _SETTINGS,
    "evaluate": {0: _PRETRAINED, "--data.store": _store, "--json": _json},
    "report": {0: _PRETRAINED, "--data.store": _store, "--out": _output},
    "datasets": {"--out": _json, "--table": _output},
    "masks": {"--out": _output},
    "store": {0: _action},
    "reconstruct": {"--out": lambda word: nifti_ending(Path(word)), 0: _run_or_published, 1: require_there},
    "predict": {"--out": lambda word: nifti_ending(Path(word)), 0: _SEGMENTATION, 1: require_there},
    "export": {"--to": TARGETS.__getitem__, 0: local_folder},
    "embed": {2: _further_store, "--out": lambda word: require_table(Path(word)), 0: local_folder},
    "probe": {2: _further_store, 0: local_folder, 1: _store},
    "similar": {0: lambda word: require_features(Path(word))},
    "compare": {1: _further_store, "--beside": PRESETS.__getitem__, 0: _store, "--init": _weights},
    "compare-transfer": _LABELLED_TASK,
    "finetune segmentation": _LABELLED_TASK,
    "finetune classification": {**_TASK, "--labels": require_there},
    "view": {0: _shown, "--labels": require_there},
    "publish": {0: _PRETRAINED, "--about": require_there},
}
"""What is checked of a command, in this order: a flag's value, or an argument before the first flag, by its place."""
