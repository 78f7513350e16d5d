"""Fine-tunes a segmentation network on a pre-trained encoder, scores it on unseen patients, and segments a scan.

`python examples/finetune_segmentation.py RUN SCANS OUT [STEPS]`

RUN is a pre-training run, SCANS a folder with pairs of NAME.nii.gz and NAME_labels.nii.gz, and OUT a new folder.
"""

import sys
from dataclasses import replace
from pathlib import Path

from maesil import pipeline
from maesil.encoder.load import load_with_card
from maesil.store.prepare import PrepareConfig
from maesil.tasks.segmentation.config import FinetuneConfig, LabelsConfig
from maesil.training.config import MonitorConfig, TrainConfig


def main(pretrained: str, scans: Path, out: Path, steps: int = 2000) -> None:
    """Trains a segmentation network, prints its scores, and segments a scan."""
    voxels = load_with_card(pretrained)[1].voxels  # the same voxels as in pre-training
    settings = PrepareConfig(policy=voxels["policy"], spacing_mm=voxels["spacing_mm"], labels=True)
    pipeline.prepare([scans], out / "store", settings)
    config = FinetuneConfig(
        init=pretrained,
        labels=LabelsConfig(folds=2, fold=0),  # by patient; classes=("liver",) would select classes
        train=TrainConfig(steps=steps, batch=2, peak_lr=1e-3),
        monitor=MonitorConfig(validate_every=0, image_every=0),
    )
    config = replace(config, data=replace(config.data, store=out / "store"))
    pipeline.finetune_segmentation(config, out / "run")
    print(pipeline.score_segmentation(out / "run").table)
    scan = next(path for path in sorted(scans.glob("*.nii.gz")) if "_labels" not in path.name)
    print(pipeline.predict(out / "run", scan, out / f"segmented_{scan.name}"))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(f"usage: {__doc__.split('`')[1]}")
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:5]))
