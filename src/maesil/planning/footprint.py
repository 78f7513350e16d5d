"""Memory and operations of a training step by formula: a step on tensors that have shapes, but no data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from maesil.comparison.measure import ATTENTION_ON_CPU
from maesil.config import RunConfig
from maesil.models import MAEConfig, Pretrainer, make_model
from maesil.models.cost import mae_flops
from maesil.training.config import Precision, TrainConfig
from maesil.training.muon import split_parameters

FLOAT_BYTES = 4
"""Bytes of a weight, of its gradient, and of each of its moments: all are float32."""
NUMBER_TYPES: dict[str, torch.dtype] = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Precision to the number type of its matrix products; the others compute in float32."""


@dataclass(frozen=True)
class Footprint:
    """What the network and a training step of it need, by formula.

    Attributes:
        parameters: Number of trainable parameters.
        weights: Bytes of the weights, and of what else a checkpoint holds of the network.
        gradients: Bytes of the gradients.
        moments: Bytes of the optimiser's state.
        activations: Bytes that a superpatch adds: what its forward pass keeps for the backward pass.
        shared: Bytes kept for the backward pass whatever the batch, such as weights in bf16.
        flops: Floating-point operations of a superpatch's step, forward and backward.
    """

    parameters: int
    weights: int
    gradients: int
    moments: int
    activations: int
    shared: int
    flops: float

    def step_bytes(self, batch: int) -> int:
        """Bytes of a step with `batch` superpatches."""
        return self.weights + self.gradients + self.moments + self.shared + batch * self.activations


def footprint(config: RunConfig, precision: Precision) -> Footprint:
    """The footprint of a run's network, without computing anything.

    `--efficiency.recompute` is left out: it needs less memory, and more operations.

    Args:
        config: Settings of the run.
        precision: Precision of the device, not "auto".
    """
    try:
        with FakeTensorMode():
            return _footprint(config, precision)
    except RuntimeError:  # a network whose shapes depend on the data computes two small steps
        return _footprint(config, precision)


def _footprint(config: RunConfig, precision: Precision) -> Footprint:
    model = make_model(config.model, config.masking)
    with FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as counter:
        one = _kept_bytes(model, 1, precision)
    two = _kept_bytes(model, 2, precision)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Footprint(
        parameters=trained,
        weights=sum(value.numel() * value.element_size() for value in model.state_dict().values()),
        gradients=trained * FLOAT_BYTES,
        moments=_moments(model, config.train),
        activations=two - one,
        shared=max(0, 2 * one - two),
        flops=_flops(config, counter),
    )


def _moments(model: nn.Module, train: TrainConfig) -> int:
    """AdamW keeps two numbers per parameter, Muon one."""
    matrices, others = split_parameters(model)
    once = sum(value.numel() for _, value in matrices) if train.optimizer == "muon" else 0
    total = sum(value.numel() for _, value in (*matrices, *others))
    return (2 * total - once) * FLOAT_BYTES


def _kept_bytes(model: Pretrainer, batch: int, precision: Precision) -> int:
    """Bytes that a forward pass keeps for the backward pass, without the parameters themselves, after both."""
    kept: dict[int, int] = {}
    own = {value.untyped_storage()._cdata for value in (*model.parameters(), *model.buffers())}

    def note(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return saved

    generators = [torch.Generator().manual_seed(0)] * batch
    superpatch = torch.rand(batch, 1, *model.grid.superpatch)
    mask = torch.cat([model.draw_mask(1, generator) for generator in generators])
    dtype = NUMBER_TYPES.get(precision)
    with saved_tensors_hooks(note, lambda saved: saved), torch.autocast("cpu", dtype, enabled=dtype is not None):
        loss = model.loss(superpatch, mask, generators)
    loss.backward()  # type: ignore[no-untyped-call]  # after it, the counter has both passes
    return sum(kept.values())


def _flops(config: RunConfig, counter: FlopCounterMode) -> float:
    """By formula for our network; otherwise as PyTorch counts."""
    if isinstance(config.model, MAEConfig):
        return float(mae_flops(config.model, config.masking.visible_count(config.model.grid)))
    return float(counter.get_total_flops())
