"""The two starts of a label-efficiency experiment, each with its own training settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from maesil.encoder.start import decay_of
from maesil.errors import ConfigError
from maesil.tasks.segmentation.config import FinetuneConfig, Mode, ScratchConfig
from maesil.tasks.unread import Rule, refuse
from maesil.training.config import TrainConfig
from maesil.training.devices import world_size

STARTS = ("pre-trained", "scratch")


@dataclass(frozen=True)
class Arm:
    """How one start is trained.

    Attributes:
        start: "pre-trained" or "scratch".
        peak_lr: Peak learning rate.
        layer_decay: Ratio of each encoder block's learning rate to that of the block above; None: the encoder is
            frozen, or not used.
        mode: What is trained, as in `SegmentationConfig`.
    """

    start: str
    peak_lr: float
    layer_decay: float | None
    mode: Mode = "full"

    def settings(self, config: FinetuneConfig) -> FinetuneConfig:
        """A training's settings: the common ones, with this start's own applied."""
        return replace(
            config,
            random_start=self.start == "scratch",
            train=with_rate(config.train, self.peak_lr),
            model=replace(config.model, layer_decay=self.layer_decay, mode=self.mode),
        )

    def __str__(self) -> str:
        if self.layer_decay is not None:
            how = f"layer decay {self.layer_decay:g}"
        else:
            how = "MONAI's UNet in place of the encoder" if self.mode == "unet" else "a frozen encoder"
        return f"{self.start}: peak learning rate {self.peak_lr:g}, {how}"


def with_rate(train: TrainConfig, peak_lr: float) -> TrainConfig:
    """The same training with another peak learning rate."""
    return replace(train, peak_lr=peak_lr, base_lr=TrainConfig().base_lr)


def arm_of(config: FinetuneConfig, scratch: ScratchConfig, start: str, rates: Sequence[float]) -> Arm:
    """How a start is trained, before any rate is chosen.

    Args:
        config: Common settings, and the pre-trained encoder's.
        scratch: The random encoder's own settings.
        start: "pre-trained" or "scratch".
        rates: Peak learning rates to try; the first is used, if there are any.
    """
    rate = config.train.learning_rate(world_size(config.efficiency))
    decay: float | None = decay_of(config.model.layer_decay, config.init, random_start=False)
    mode = config.model.mode
    if start == "scratch":
        rate, decay, mode = scratch.peak_lr or rate, scratch.layer_decay, scratch.mode or mode
    return Arm(start, rates[0] if rates else rate, decay if mode == "full" else None, mode)


def require_own_settings(config: FinetuneConfig, scratch: ScratchConfig, rates: Sequence[float]) -> None:
    """Raises ConfigError if a setting is varied by the experiment or replaced by `rates`, or if a rate is invalid."""
    if any(rate <= 0 for rate in rates):
        raise ConfigError(f"a learning rate is {min(rates):g}", fix="give --rates above 0")
    refuse(_rules(config, scratch, rates))


def _rules(config: FinetuneConfig, scratch: ScratchConfig, rates: Sequence[float]) -> Iterator[Rule]:
    own, labels = FinetuneConfig(), config.labels
    yield Rule("--labels.scans", labels.scans is not None, "amounts of labels are compared", "--scans")
    yield Rule("--labels.share", labels.share is not None, "amounts of labels are compared", "--shares")
    yield Rule("--seed", config.seed != own.seed, "seeds are numbered from 0", "--seeds N")
    yield Rule("--random-start", config.random_start, "both starts are trained")
    peer = config.model.mode == "unet"
    yield Rule("--model.mode unet", peer, "the pre-trained encoder would not be used", "--scratch.mode unet")
    train = config.train
    by_rates = bool(rates)
    why, fix = "--rates replaces it", "give only one of the two"
    yield Rule("--train.peak-lr", by_rates and train.peak_lr != own.train.peak_lr, why, fix)
    yield Rule("--train.base-lr", by_rates and train.base_lr != own.train.base_lr, why, fix)
    yield Rule("--scratch.peak-lr", by_rates and scratch.peak_lr is not None, why, fix)
    decays = (
        (config.model.mode, config.model.layer_decay is not None, "--model"),
        (scratch.mode or config.model.mode, scratch.layer_decay != ScratchConfig().layer_decay, "--scratch"),
    )
    for mode, given, section in decays:
        frozen = mode != "full" and given
        why = f'mode "{mode}" does not train the encoder'
        yield Rule(f"{section}.layer-decay", frozen, why, f"{section}.mode full")
