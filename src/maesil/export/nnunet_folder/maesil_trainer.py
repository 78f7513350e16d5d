"""Trainers for nnU-Net 2.8: `MaesilTrainer` starts from the exported encoder, `MaesilScratchTrainer` is its twin.

nnU-Net finds them through `export nnUNet_extTrainer=FOLDER`. Use the plans of `maesil_plans.py`: they have the
encoder's spacing, window and patch size.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

SUPPORTED = "2.8."
FOLDER = Path(__file__).resolve().parent
CUDA = torch.device("cuda")

if not version("nnunetv2").startswith(SUPPORTED):
    raise RuntimeError(
        f"maesil_trainer.py is for nnU-Net {SUPPORTED}x, and {version('nnunetv2')} is installed: "
        "pip install 'nnunetv2>=2.8,<2.9', or adapt SUPPORTED in this file and try"
    )

from maesil_network import build, description, load  # noqa: E402 (the version comes first)
from maesil_plans import unplanned  # noqa: E402
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import AbstractPrimus  # noqa: E402


class MaesilScratchTrainer(AbstractPrimus):  # type: ignore[misc]
    """The same network and schedule as `MaesilTrainer`, from random weights: the fair baseline.

    The optimiser and schedule are nnU-Net's for Primus. MAESIL_NNUNET_EPOCHS and MAESIL_NNUNET_ITERATIONS (per epoch)
    shorten a training.
    """

    def __init__(  # nnU-Net reads the names of these arguments
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = CUDA,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs: int = _setting("MAESIL_NNUNET_EPOCHS", self.num_epochs)
        self.num_iterations_per_epoch: int = _setting("MAESIL_NNUNET_ITERATIONS", self.num_iterations_per_epoch)
        self.num_val_iterations_per_epoch: int = min(self.num_val_iterations_per_epoch, self.num_iterations_per_epoch)
        self.warmup_duration_whole_net: int = min(self.warmup_duration_whole_net, max(1, self.num_epochs // 4))
        for line in doubts(plans, configuration):
            self.print_to_log_file(f"WARNING: {line}")

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Primus with plain blocks and random weights."""
        if num_input_channels != 1:
            raise RuntimeError(f"the encoder has one input channel, CT, but the data set has {num_input_channels}")
        network: nn.Module = build(FOLDER, num_output_channels, configuration_manager.patch_size)
        return network


class MaesilTrainer(MaesilScratchTrainer):
    """Starts from the pre-trained encoder; the decoder is new."""

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Primus with the weights of the encoder."""
        network = MaesilScratchTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels
        )
        new = load(network, FOLDER, configuration_manager.patch_size)
        print(f"maesil: the encoder is loaded; {len(new)} tensors of the decoder are new")  # noqa: T201
        return network


def _setting(variable: str, default: int) -> int:
    return int(os.environ.get(variable, str(default)))


def doubts(plans: dict[str, Any], configuration: str) -> list[str]:
    """Differences between the plans and the pre-training, with their numbers."""
    card, chosen = description(FOLDER), plans["configurations"][configuration]
    advice = "run maesil_plans.py, and train with -p nnUNetPlansMaesil"
    found = []
    spacing = card["voxels"].get("spacing_mm")
    if spacing is not None and any(abs(step - spacing) > 0.01 * spacing for step in chosen["spacing"]):
        found.append(
            f"the plans have a spacing of {chosen['spacing']} mm, the encoder was trained at {spacing} mm: {advice}"
        )
    if doubt := unplanned(card, chosen["spacing"]):
        found.append(doubt)
    window = plans["foreground_intensity_properties_per_channel"]["0"]
    mapped = (window["mean"], window["mean"] + window["std"])
    if chosen["normalization_schemes"] != ["CTNormalization"] or mapped != (card["low_hu"], card["high_hu"]):
        scheme = chosen["normalization_schemes"][0]
        wanted = f"HU {card['low_hu']:g} to {card['high_hu']:g} mapped to 0 to 1"
        found.append(f"the plans normalise by {scheme}, the encoder was trained with {wanted}: {advice}")
    return found
