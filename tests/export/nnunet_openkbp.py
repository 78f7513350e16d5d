"""The real nnU-Net on four patients with an exported encoder: plan, preprocess, train, predict.

Run by a test in a process of its own, with nnU-Net's packages on the path:
`python nnunet_openkbp.py WORK SOURCE EXPORT OWN`, where OWN is the export of an encoder of Primus-S's size.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

# timm imports torchvision, whose module declares kernels for operators that a CPU build of torch does not know.
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
warnings.simplefilter("ignore")
torch.set_num_threads(1)

ID, NAME = "7", "Dataset007_organs"
ORGANS = {"background": 0, "Brainstem": 1, "Mandible": 2}


def write_data(raw: Path, source: Path) -> None:
    """Four patients with two organs, in LPS, as nnU-Net wants them."""
    import numpy as np
    import SimpleITK

    numbers = {name: int(number) for number, name in json.loads((source / "label_names.json").read_text()).items()}
    folder = raw / NAME
    for sub in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / sub).mkdir(parents=True)
    kept = 0
    for path in sorted(source.glob("*[0-9].nii.gz")):
        labels = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path).replace(".nii.gz", "_labels.nii.gz")), "LPS")
        image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
        given = SimpleITK.GetArrayFromImage(labels)
        wanted = np.zeros(given.shape, np.uint8)
        for name, number in list(ORGANS.items())[1:]:
            wanted[given == numbers[name]] = number
        if not all((wanted == number).any() for number in (1, 2)):
            continue
        middle = [int(np.median(axis)) for axis in np.nonzero(wanted)]
        lows = [max(0, min(size - 48, at - 24)) for at, size in zip(middle, wanted.shape, strict=True)]
        box = [slice(low, min(low + 48, size)) for low, size in zip(lows[::-1], wanted.shape[::-1], strict=True)]
        mask = SimpleITK.GetImageFromArray(wanted)
        mask.CopyInformation(labels)
        SimpleITK.WriteImage(image[tuple(box)], str(folder / "imagesTr" / f"case{kept}_0000.nii.gz"))
        SimpleITK.WriteImage(mask[tuple(box)], str(folder / "labelsTr" / f"case{kept}.nii.gz"))
        kept += 1
        if kept == 4:
            break
    assert kept == 4
    (folder / "imagesTs" / "case0_0000.nii.gz").write_bytes((folder / "imagesTr" / "case0_0000.nii.gz").read_bytes())
    about = {"channel_names": {"0": "CT"}, "labels": ORGANS, "numTraining": 4, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about))


def run(entry: Callable[[], object], *words: str) -> None:
    sys.argv = list(words)
    entry()


def main(work: Path, source: Path, export: Path, own: Path) -> None:
    raw, ready, results = (work / name for name in ("raw", "preprocessed", "results"))
    os.environ |= {"nnUNet_raw": str(raw), "nnUNet_preprocessed": str(ready), "nnUNet_results": str(results)}
    os.environ |= {"nnUNet_extTrainer": str(export), "nnUNet_n_proc_DA": "1", "nnUNet_compile": "f"}
    os.environ |= {"MAESIL_NNUNET_EPOCHS": "1", "MAESIL_NNUNET_ITERATIONS": "2"}
    write_data(raw, source)
    from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry, preprocess_entry
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point
    from nnunetv2.run.run_training import run_training_entry

    plans, trained = ["-p", "nnUNetPlansMaesil"], ["-tr", "MaesilTrainer"]
    run(plan_and_preprocess_entry, "plan", "-d", ID, "--no_pp", "-npfp", "1")
    write_plans(export)
    run(preprocess_entry, "preprocess", "-d", ID, "-plans_name", "nnUNetPlansMaesil", "-c", "3d_fullres", "-np", "1")
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # augmentation in this process
    for trainer in ("MaesilTrainer", "MaesilScratchTrainer"):
        run(run_training_entry, "train", ID, "3d_fullres", "all", *plans, "-device", "cpu", "-tr", trainer)
    where = ["-i", str(raw / NAME / "imagesTs"), "-o", str(work / "out"), "-chk", "checkpoint_final.pth"]
    alone = ["-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta"]
    run(predict_entry_point, "predict", "-d", ID, *where, "-c", "3d_fullres", "-f", "all", *plans, *trained, *alone)
    train_nnunets_own(own, ready / NAME, plans)


def write_plans(export: Path) -> None:
    """What `python EXPORT/maesil_plans.py ID` does."""
    names = ("maesil_plans", "maesil_network")
    sys.path.insert(0, str(export))
    for name in names:
        sys.modules.pop(name, None)
    assert importlib.import_module("maesil_plans").main([ID]) == 0
    sys.path.remove(str(export))  # nnU-Net finds the trainers by itself
    for name in names:
        sys.modules.pop(name)


def train_nnunets_own(own: Path, ready: Path, plans: list[str]) -> None:
    """nnU-Net's own trainer for Primus-S, from the checkpoint that maesil_plans.py writes."""
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
    from nnunetv2.run.run_training import run_training_entry
    from nnunetv2.training.nnUNetTrainer.primus import primus_trainers
    from safetensors.torch import load_file

    write_plans(own)
    checkpoint, trainer = ready / "maesil_pretrained.pth", primus_trainers.nnUNet_Primus_S_Trainer
    saved = torch.load(checkpoint, weights_only=True)["network_weights"]
    for name, tensor in load_file(own / "primus_encoder.safetensors").items():
        assert torch.equal(saved[name], tensor), name
    make, loaded = trainer.__init__, []

    @functools.wraps(make)  # nnU-Net reads the names of the arguments
    def shortened(self: object, *given: object, **named: object) -> None:
        make(self, *given, **named)
        vars(self).update(num_epochs=1, num_iterations_per_epoch=2, num_val_iterations_per_epoch=1)
        vars(self).update(warmup_duration_whole_net=1, perform_actual_validation=lambda *_: None)

    def told(network: torch.nn.Module, path: str, **named: object) -> None:
        load_pretrained_weights(network, path, **named)
        loaded.append(network.state_dict()["eva.blocks.3.mlp.fc1_g.weight"].clone())

    import nnunetv2.run.run_training as entry

    trainer.__init__, entry.load_pretrained_weights = shortened, told
    words = [ID, "3d_fullres", "all", *plans, "-device", "cpu", "-tr", trainer.__name__]
    run(run_training_entry, "train", *words, "-pretrained_weights", str(checkpoint))
    assert torch.equal(loaded[0], saved["eva.blocks.3.mlp.fc1_g.weight"])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
