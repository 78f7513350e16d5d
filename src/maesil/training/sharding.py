"""FSDP2: every rank keeps a share of the weights, gradients and moments, and gathers a block while it computes it.

Checkpoints stay whole, so that any number of ranks, sharded or not, reads what any other wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from maesil.models.contract import Pretrainer
from maesil.models.transformer import Block
from maesil.training.muon import MuonAdamW

ENTRIES = ("loss", "reconstruct")
"""Methods that training calls in place of `forward`: the weights outside the blocks are gathered around them."""


def shard(model: Pretrainer, mesh: DeviceMesh) -> None:
    """Shares a model's weights out to the ranks of a mesh: each block apart, the rest together.

    Frozen weights stay whole: a codebook sets its own, in place and alike on all ranks.

    Args:
        model: The same on every rank.
        mesh: One-dimensional.
    """
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for module in (*blocks, model):
        # The root too: between steps there are shares only, whatever ran last.
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)
    for name in ENTRIES:
        register_fsdp_forward_method(model, name)


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or gathered where ranks hold shares of it: then all of them must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(state: Mapping[Any, Any], *, keep: bool) -> dict[Any, Any]:
    """A state (of a model, or of an optimiser) whose tensors are whole: all ranks must ask.

    Args:
        state: Nested mappings with tensors, shared out or not.
        keep: Whether this rank needs it; where not, shared tensors come out as None and take no memory.
    """
    return {name: _gathered(value, keep) for name, value in state.items()}


def _gathered(value: Any, keep: bool) -> Any:
    if isinstance(value, Mapping):
        return gathered(value, keep=keep)
    if not isinstance(value, DTensor):
        return value
    tensor = whole(value)
    return tensor.cpu() if keep else None


def share(tensor: Tensor, like: Tensor) -> Tensor:
    """A copy of this rank's share of a whole tensor, cut as `like` is; of all of it where that is whole.

    A view would keep the whole tensor in memory, and the file that it comes from on the disk.
    """
    if not isinstance(like, DTensor):
        return tensor.clone()
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None).clone()


def shared_moments(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """A whole optimiser state with the moments cut as this optimiser's parameters are."""
    if isinstance(optimizer, MuonAdamW):
        parts = {"muon": optimizer.muon, "adamw": optimizer.adamw}
        return {name: shared_moments(state[name], part) for name, part in parts.items()}
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    like = dict(zip(numbers, parameters, strict=True))
    moments = {
        number: {name: share(value, like[number] if value.ndim else value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": moments}


@final
class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with the checkpoints that all strategies write and read.

    Lightning's own would number the moments by the order of the weights in the model, and read those of an optimiser
    with several groups, which are in the order of its groups, as other weights'.

    Args:
        world: Ranks, of all nodes.
    """

    def __init__(self, world: int) -> None:
        super().__init__(data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Moments come through `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, on the first rank."""
        assert self.lightning_module is not None
        return gathered(self.lightning_module.state_dict(), keep=self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole moments, on the first rank."""
        return gathered(optimizer.state_dict(), keep=self.is_global_zero)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """The file, mapped rather than read: a rank takes its shares from it."""
        state: dict[str, Any] = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=weights_only)
        return state

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Takes up this rank's shares of the weights."""
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        weights = {name: share(value, own.get(name, value)) for name, value in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(weights, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes up this rank's shares of the moments."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(shared_moments(state, optimizer))
