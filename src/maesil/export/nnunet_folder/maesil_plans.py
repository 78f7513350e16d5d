"""Plans for the exported encoder: `python maesil_plans.py DATASET_ID` writes nnUNetPlansMaesil.json beside nnUNetPlans.

For an encoder of the size of one of nnU-Net's own Primus trainers, it also writes a checkpoint for
`nnUNetv2_train -pretrained_weights`.

They are nnU-Net's own plans (run `nnUNetv2_plan_and_preprocess -d ID --no_pp` first) with the encoder's spacing, patch
size and window in the configuration 3d_fullres: nnU-Net's CTNormalization clips to two percentiles, subtracts a mean
and divides by a deviation, so the window's bounds, its lower bound and its width make it map the window to 0 to 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
NAME, CONFIGURATION = "nnUNetPlansMaesil", "3d_fullres"


def adapted(plans: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """The plans with the encoder's voxels and window.

    Args:
        plans: nnU-Net's plans.
        card: Contents of transfer.json.
    """
    plans = json.loads(json.dumps(plans))
    chosen, model, spacing = plans["configurations"][CONFIGURATION], card["model"], card["voxels"].get("spacing_mm")
    low, high = card["low_hu"], card["high_hu"]
    window = {"percentile_00_5": low, "percentile_99_5": high, "mean": low, "std": high - low}
    plans["foreground_intensity_properties_per_channel"]["0"].update(window)
    if spacing is not None:
        ratio = [step / spacing for step in chosen["spacing"]]
        sizes = chosen["median_image_size_in_voxels"]
        chosen["median_image_size_in_voxels"] = [size * by for size, by in zip(sizes, ratio, strict=True)]
        chosen["spacing"] = [float(spacing)] * 3
    plans["transpose_forward"] = plans["transpose_backward"] = [0, 1, 2]
    chosen.update(
        data_identifier=f"{NAME}_{CONFIGURATION}",
        patch_size=list(model["superpatch"]),
        normalization_schemes=["CTNormalization"],
        use_mask_for_norm=[False],
    )
    plans.update(plans_name=NAME, configurations={CONFIGURATION: chosen})
    return plans


def unplanned(card: dict[str, Any], spacing: Sequence[float]) -> str | None:
    """What the plans cannot say of the encoder's voxels; None if it was trained at one spacing, which they have.

    Args:
        card: Contents of transfer.json.
        spacing: Voxel size of the plans.
    """
    voxels = card["voxels"]
    if voxels.get("policy", "spacing") == "spacing":
        return None
    cube = voxels.get("cube")
    trained = f"whole scans resampled to {cube}x{cube}x{cube} voxels" if cube else "the voxels that scans have"
    return (
        f"the encoder was trained on {trained}, which plans cannot ask for: they keep a spacing of {list(spacing)} mm, "
        "so it may see bodies of another size; prefer an encoder that was trained at one spacing"
    )


def turned(files: Sequence[Path]) -> list[str]:
    """Names of the images whose array axes are not Superior, Posterior, Left: nnU-Net does not reorient."""
    import SimpleITK

    names = []
    for path in files:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        direction = reader.GetDirection()
        if any(abs(direction[place] - 1) > 0.1 for place in (0, 4, 8)):
            names.append(path.name)
    return names


def write_checkpoint(trainer: str, plans: dict[str, Any], dataset: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint with every tensor of a trainer's network: the encoder's, and new ones of the decoder.

    Args:
        trainer: Name of nnU-Net's own trainer.
        plans: The plans of this file.
        dataset: Contents of dataset.json, which has the classes.
        path: The checkpoint's path.
    """
    import torch
    from maesil_network import load
    from nnunetv2.training.nnUNetTrainer.primus import primus_trainers
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    chosen = manager.get_configuration(CONFIGURATION)
    outputs = manager.get_label_manager(dataset).num_segmentation_heads
    make = getattr(primus_trainers, trainer).build_network_architecture
    network = make(manager, chosen, 1, outputs)
    load(network, FOLDER, chosen.patch_size)
    torch.save({"network_weights": network.state_dict()}, path)


def main(words: Sequence[str]) -> int:
    """Writes the plans and prints what to run next."""
    if len(words) != 1 or not words[0].isdigit():
        print(f"usage: python {Path(__file__).name} DATASET_ID", file=sys.stderr)  # noqa: T201
        return 2
    from maesil_network import CHECKPOINT, own_trainer
    from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    dataset = maybe_convert_to_dataset_name(int(words[0]))
    folder = Path(str(nnUNet_preprocessed)) / dataset
    source = folder / "nnUNetPlans.json"
    if not source.is_file():
        print(f"no {source}: run nnUNetv2_plan_and_preprocess -d {words[0]} --no_pp first", file=sys.stderr)  # noqa: T201
        return 2
    card = json.loads((FOLDER / "transfer.json").read_text(encoding="utf-8"))
    plans = json.loads(source.read_text(encoding="utf-8"))
    if CONFIGURATION not in plans["configurations"]:
        print(f"the plans have no configuration {CONFIGURATION}", file=sys.stderr)  # noqa: T201
        return 2
    path = folder / f"{NAME}.json"
    plans = adapted(plans, card)
    path.write_text(json.dumps(plans, indent=4), encoding="utf-8")
    if doubt := unplanned(card, plans["configurations"][CONFIGURATION]["spacing"]):
        print(f"WARNING: {doubt}")  # noqa: T201
    images = sorted((Path(str(nnUNet_raw)) / dataset / "imagesTr").iterdir())
    if names := turned(images):
        print(  # noqa: T201
            f"WARNING: {len(names)} of {len(images)} images, such as {names[0]}, do not have the axes of the "
            "pre-training; write them as LPS (SimpleITK.DICOMOrient(image, 'LPS')), or the encoder sees turned bodies"
        )
    print(path)  # noqa: T201
    if trainer := own_trainer(card["model"]):
        checkpoint = folder / CHECKPOINT
        write_checkpoint(trainer, plans, json.loads((folder / "dataset.json").read_text(encoding="utf-8")), checkpoint)
        print(f"for nnU-Net's own trainer: -tr {trainer} -pretrained_weights {checkpoint}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
