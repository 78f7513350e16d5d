"""The command line: finds the command, runs it, and turns errors into messages and exit codes.

Exit codes: 0 done; 1 partly done, interrupted, or failed while running; 2 invalid call.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from maesil import __version__
from maesil.catalog import Catalog, listing
from maesil.commands.finetune import TASKS
from maesil.errors import MaesilError, MaesilWarning
from maesil.export import TARGETS

COMMANDS = Catalog(
    "command",
    {
        "demo": "run the whole pipeline on one real CT, in 10 to 15 minutes on two cores",
        "datasets": "list the contents of CT folders (Table I), and merge them into one dataset",
        "check": "say whether a scan looks like sound CT in Hounsfield units",
        "prepare": "convert scans into a store that training can read fast",
        "store": "check the files of a store, repair it, or remove scans",
        "plan": "say what a pre-training will need: memory, hours, passes over the store, disk",
        "pretrain": "pre-train a model",
        "evaluate": "score a run on held-out scans",
        "compare": "train models under one budget, score them, and write tables and an HTML page",
        "report": "write a run's HTML page",
        "view": "look at scans, stores and reconstructions in the browser",
        "reconstruct": "mask and reconstruct one scan, and write both as NIfTI on its voxel grid",
        "export": f"write the encoder for another tool: {', '.join(TARGETS)}",
        "publish": "write weights in fp16 with card and checksums, for others to load by name",
        "finetune": f"train a task on a pre-trained encoder: {', '.join(TASKS)}",
        "embed": "write one vector per scan and superpatch, for pandas and scikit-learn",
        "similar": "find the scans or regions nearest to a query",
        "probe": "say how much frozen features tell about organs, next to random weights",
        "predict": "segment one scan on its voxel grid",
        "compare-transfer": "compare pre-trained with random weights, from few to many labels",
        "masks": "plot the masking strategies",
        "nodules": "write nodules of LIDC-IDRI as label files, with volume and malignancy",
        "doctor": "show versions, devices, memory, metric weights",
    },
)
"""Name to purpose; the command itself is the function `main` of its module in `maesil.commands`."""


def overview() -> str:
    """The help: three steps, and every command with its purpose."""
    return f"""maesil {__version__}: masked-autoencoder pre-training on unlabeled 3D CT

Three steps from your scans to a pre-trained encoder:

  maesil prepare SCANS... --out STORE                   convert them into one store
  maesil pretrain base --data.store STORE --run RUN     train; the same command resumes
  maesil evaluate RUN                                   score it on held-out scans; `maesil report RUN` writes its page

All commands:

{listing(COMMANDS)}

`maesil COMMAND --help` explains each, with examples. Exit codes: 0 done, 1 partly done or interrupted, 2 invalid call.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; user errors print a message, never a traceback."""
    try:
        with _plain_warnings():
            code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()  # a closed pipe is found here, rather than in a traceback at exit
        return code
    except MaesilError as error:
        print(f"maesil: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nmaesil: interrupted; give the same command again: what was finished is kept", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
        return 1


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints maesil's own warnings as one line, without the line of code that Python adds."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, MaesilWarning):
            print(f"maesil: warning: {message}", file=sys.stderr)
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    try:
        COMMANDS[words[0]]  # raises for an unknown name and suggests the nearest one
        from maesil.commands.early import check  # reads no torch, but more than a help needs

        check(words)
        module = f"maesil.commands.{words[0].replace('-', '_')}"
        code: int = import_module(module).main(words[1:])  # a module per command: most helps need no torch
        return code
    except SystemExit as stop:  # tyro exits like this after --help or a wrong argument
        return stop.code if isinstance(stop.code, int) else 2


if __name__ == "__main__":
    sys.exit(main())
