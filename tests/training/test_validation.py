"""The score that chooses `best`: of voxels inside the scans, every held-out superpatch once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from backbones import small_backbone
from maesil import pipeline
from maesil.config import RunConfig
from maesil.ct.window import Window
from maesil.masking import DualMasking
from maesil.models.contract import Reconstruction
from maesil.models.mae import MAEConfig, MaskedAutoencoder
from maesil.sampling.dataset import SuperpatchDataset, Superpatches, inside_voxels
from maesil.sampling.labelled import LabelledSuperpatches
from maesil.sampling.plan import GridPlan, Place
from maesil.sampling.regions import regions_of
from maesil.store.scanstore import ScanStore
from maesil.tasks.segmentation.augmenter import Augmenter
from maesil.tasks.segmentation.config import NO_AUGMENTATION, SegmentationConfig
from maesil.tasks.segmentation.module import SegmentationModule
from maesil.tasks.segmentation.network import Segmenter
from maesil.training.callbacks import Checkpoints
from maesil.training.config import TrainConfig
from maesil.training.logs import curve
from maesil.training.module import PretrainModule
from maesil.training.stepper import Stepper

EDGE = 32
TINY = MAEConfig(
    superpatch=(EDGE,) * 3, encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2,
)  # fmt: skip
WINDOW = Window(-1000.0, 1000.0)


def validated(module: Stepper, batches: list[object]) -> float:
    """The score of these batches."""
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    loader: DataLoader[object] = DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
    trainer.validate(module, dataloaders=loader, verbose=False)
    return float(trainer.callback_metrics[module.score])


def superpatches(insides: list[tuple[int, int, int]]) -> Superpatches:
    """0 HU inside the scan, air behind."""
    inside = torch.tensor(insides)
    hu = torch.where(inside_voxels(inside, TINY.superpatch), 0, -1024).to(torch.int16)
    count = len(insides)
    return Superpatches(hu, list(range(count)), [Place("scan", (0, 0, 0))] * count, inside)


def rebuilt_with(errors: list[float]) -> PretrainModule:
    """A module whose model is off by these errors inside, and by far more in the padding; the first planes are seen."""
    model = MaskedAutoencoder(TINY, DualMasking())

    def reconstruct(superpatch: Tensor, mask: Tensor) -> Reconstruction:
        off = torch.tensor([errors.pop(0) for _ in superpatch])[:, None, None, None, None]
        volume = torch.where(superpatch > 0, superpatch + off, 1.0)
        hidden = torch.ones_like(superpatch, dtype=torch.bool)
        hidden[:, :, : EDGE // 2] = False
        volume[:, :, : EDGE // 2] = 0.0  # nobody looks at how what was seen comes back
        return Reconstruction(volume, hidden)

    model.reconstruct = reconstruct  # type: ignore[method-assign, assignment]
    return PretrainModule(model, TrainConfig(steps=1), WINDOW, (), seed=0)


@pytest.mark.filterwarnings("ignore")  # Lightning's, of loaders that are lists
def test_validation__padding_is_not_looked_at() -> None:
    """0.1 off is 20 dB and 0.01 off 40 dB, of however many voxels; their mean is 30 dB."""
    batch = superpatches([(EDGE, EDGE, EDGE), (20, 7, 30)])
    assert validated(rebuilt_with([0.1, 0.01]), [batch]) == pytest.approx(30.0, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_validation__superpatches_without_a_hidden_voxel_inside_are_left_out() -> None:
    """One ends where the hidden planes begin, one only fills its batch up; batches of two and of one."""
    seen_alone, filling = (EDGE // 2, EDGE, EDGE), (0, 0, 0)
    batches = [superpatches([(20, 20, 20), seen_alone, filling]), superpatches([(18, EDGE, 1), (EDGE, 1, 1)])]
    errors = [0.1, 0.3, 0.3, 0.01, 0.01]
    assert validated(rebuilt_with(errors), batches) == pytest.approx((20 + 40 + 40) / 3, abs=1e-3)


def test_superpatch_dataset__says_how_far_superpatches_lie_inside(tiny_config: RunConfig) -> None:
    """Scans of 70 x 64 x 80 voxels; what is behind is air that `inside_voxels` leaves out."""
    store = ScanStore(tiny_config.data.store)  # type: ignore[arg-type]
    plan = GridPlan(regions_of(store, tiny_config.data, TINY.superpatch, "val"), seed=None)
    dataset = SuperpatchDataset(store, plan, TINY.superpatch, count=17)
    batch = dataset.begin(list(range(18)))()
    expected = [tuple(min(EDGE, size - at) for size, at in zip((70, 64, 80), place.origin, strict=True))
                for place in batch.places]  # fmt: skip
    assert [tuple(row) for row in batch.inside.tolist()] == [*expected[:17], (0, 0, 0)], "the last one only fills up"
    behind = ~inside_voxels(batch.inside[:17], TINY.superpatch)
    assert behind.any()
    assert (batch.hu[:17][behind] == -1024).all()


def test_pretrain__ten_superpatches_are_ten_at_any_batch(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 8 and of 3, before the weights differ."""
    seen: list[int] = []
    validation_step = PretrainModule.validation_step

    def watch(module: PretrainModule, batch: Superpatches, batch_index: int) -> None:
        seen.extend(batch.numbers)
        validation_step(module, batch, batch_index)

    monkeypatch.setattr(PretrainModule, "validation_step", watch)
    scores = []
    for batch in (8, 3):
        train = replace(tiny_config.train, steps=1, batch=batch, peak_lr=1e-30)
        monitor = replace(tiny_config.monitor, validate_every=1, validation_superpatches=10)
        pipeline.pretrain(replace(tiny_config, train=train, monitor=monitor), tmp_path / str(batch))
        scores += curve(tmp_path / str(batch) / "logs" / "metrics.csv", "val_psnr_masked")[1]
    assert sorted(seen) == sorted([*range(10), *range(10)])
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_pretrain__validates_its_last_step_too(tiny_config: RunConfig, tmp_path: Path) -> None:
    monitor = replace(tiny_config.monitor, validate_every=2)
    config = replace(tiny_config, train=replace(tiny_config.train, steps=5), monitor=monitor)
    assert pipeline.pretrain(config, tmp_path).status == "finished"
    assert curve(tmp_path / "logs" / "metrics.csv", "val_psnr_masked")[0] == [2, 4, 5]
    assert "val_psnr_masked: " in (tmp_path / "checkpoints" / "last" / "card.md").read_text()


def test_checkpoints__the_best_score_survives_where_it_came_after_the_step_was_saved(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    """A run that is made longer, or was killed, goes on from a state that was saved before its validation."""
    monitor = replace(tiny_config.monitor, validate_every=4, checkpoint_every=4)
    pipeline.pretrain(
        replace(tiny_config, train=replace(tiny_config.train, steps=4), monitor=monitor), tmp_path / "run"
    )
    (score,) = curve(tmp_path / "run" / "logs" / "metrics.csv", "val_psnr_masked")[1]
    resumed = Checkpoints(tmp_path / "run" / "checkpoints", 4, {}, lambda step, metrics: "")
    resumed.load_state_dict({"best": None})
    assert resumed.best == pytest.approx(score)
    resumed.load_state_dict({"best": score + 1})
    assert resumed.best == score + 1
    Checkpoints(tmp_path / "empty", 4, {}, lambda step, metrics: "").load_state_dict({"best": None})


def painter() -> Segmenter:
    """Finds its one class everywhere."""
    model = Segmenter(small_backbone(TINY), 1, SegmentationConfig(mode="linear"))
    assert isinstance(model.decoder, nn.Conv3d)
    assert model.decoder.bias is not None
    nn.init.zeros_(model.decoder.weight)
    model.decoder.bias.data = torch.tensor([0.0, 1.0])
    return model


@pytest.mark.filterwarnings("ignore")
def test_segmentation__padding_and_what_fills_up_count_for_nothing() -> None:
    """Found are 8 and 16 voxels inside, 6 of them rightly: Dice 2 * 6 / (24 + 6) = 0.4."""
    inside = torch.tensor([(2, 2, 2), (4, 4, 1), (0, 0, 0)])
    labels = torch.zeros(3, 1, EDGE, EDGE, EDGE, dtype=torch.long)
    labels[0, 0, 0, 0, :2] = labels[1, 0, 0, :4, 0] = 1
    labels[2] = 1
    places = [Place("scan", (0, 0, 0))] * 3
    batch = LabelledSuperpatches(
        torch.zeros(labels.shape, dtype=torch.int16), labels, [0, 1, 2], places, inside, [(True,)] * 3
    )
    module = SegmentationModule(painter(), TrainConfig(steps=1), (), Augmenter(NO_AUGMENTATION, WINDOW), 0)
    assert validated(module, [batch]) == pytest.approx(0.4)


@pytest.mark.filterwarnings("ignore")
def test_segmentation__an_unmarked_class_counts_for_nothing() -> None:
    """The second superpatch's scan was not annotated: its 64 voxels are neither right nor wrong."""
    inside = torch.tensor([(4, 4, 4), (4, 4, 4)])
    labels = torch.zeros(2, 1, EDGE, EDGE, EDGE, dtype=torch.long)
    labels[0, 0, :4, :4, :2] = 1
    hu = torch.zeros(labels.shape, dtype=torch.int16)
    places = [Place("scan", (0, 0, 0))] * 2
    scores = []
    for marked in ([(True,), (False,)], [(True,), (True,)]):
        module = SegmentationModule(painter(), TrainConfig(steps=1), (), Augmenter(NO_AUGMENTATION, WINDOW), 0)
        scores.append(validated(module, [LabelledSuperpatches(hu, labels, [0, 1], places, inside, marked)]))
    assert scores == pytest.approx([2 * 32 / (64 + 32), 2 * 32 / (128 + 32)])
