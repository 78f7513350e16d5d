"""The command line: finds the command, runs it, and turns errors into messages and exit codes.

Exit codes: 0 done; 1 partly done, interrupted, or failed while running; 2 invalid call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from maesil import __version__
from maesil.catalog import Catalog
from maesil.errors import MaesilError

OVERVIEW = f"""maesil {__version__}: masked-autoencoder pre-training on unlabeled 3D CT

Three steps from your scans to a pre-trained encoder:

  maesil prepare SCANS... --out STORE                   NIfTI, NRRD, MetaImage, DICOM -> one store
  maesil pretrain base --data.store STORE --run RUN     train; the same command resumes
  maesil evaluate RUN                                   PSNR, SSIM, LPIPS on held-out scans, and a page

All commands:

  demo         the whole pipeline on one real CT, in about ten minutes on two cores
  datasets     list what folders of CT contain (Table I), and merge them into one dataset
  prepare      convert scans into a store that training can read fast
  pretrain     pre-train a model
  evaluate     score a run on held-out scans
  compare      train models under one budget, score them, write tables and a page
  report       write a run's HTML page
  reconstruct  mask and reconstruct one scan; both as NIfTI on the scan's own grid
  export       write the encoder for MONAI, nnU-Net, Hugging Face, ONNX, TorchScript
  finetune     train a task (segmentation, classification) on a pre-trained encoder
  embed        one vector per scan and superpatch, for pandas and scikit-learn
  similar      the scans or regions nearest to a query
  predict      segment one scan, on its own grid
  compare-transfer   does pre-training help? few labels and many, against random weights
  masks        plot the masking strategies
  nodules      nodules of LIDC-IDRI as label files, with volume and malignancy
  doctor       versions, devices, memory, metric weights

`maesil COMMAND --help` explains each, with examples. Exit codes: 0 done, 1 partly done or interrupted, 2 invalid call.
"""


class Command(Protocol):
    """A command: parses its arguments, does its work through `maesil.pipeline`, returns an exit code."""

    def __call__(self, words: Sequence[str]) -> int:
        """Runs the command with the arguments after its name."""


COMMANDS = Catalog(
    "command",
    {
        name: f"maesil.commands.{name}"
        for name in (
            *("demo", "datasets", "prepare", "pretrain", "evaluate"),
            *("compare", "report", "reconstruct", "export"),
            *("finetune", "embed", "similar", "predict", "masks", "nodules", "doctor"),
        )
    }
    | {"compare-transfer": "maesil.commands.compare_transfer"},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; user errors print a message, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(OVERVIEW)
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    try:
        command: Command = import_module(COMMANDS[words[0]]).main  # a module per command: `--help` loads no torch
        return command(words[1:])
    except MaesilError as error:
        print(f"maesil: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nmaesil: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 1
    except SystemExit as stop:  # tyro exits like this after --help or a wrong flag
        return stop.code if isinstance(stop.code, int) else 2
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
