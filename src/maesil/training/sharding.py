"""FSDP2: every rank keeps a shard of the weights, gradients and moments, and gathers a block while it computes it.

Checkpoints are not sharded, so a run can go on with any number of ranks, with or without sharding.
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
"""Methods that training calls instead of `forward`; weights outside the blocks are gathered for them."""


def shard(model: Pretrainer, mesh: DeviceMesh) -> None:
    """Shards a model's weights over the ranks of a mesh: each block separately, the other weights together.

    Frozen weights are not sharded: a codebook sets them in place, to the same values on all ranks.

    Args:
        model: Pretrainer with the same weights on every rank.
        mesh: One-dimensional mesh of ranks.
    """
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for module in (*blocks, model):
        # The root too, so that between steps all weights are sharded.
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)
    for name in ENTRIES:
        register_fsdp_forward_method(model, name)


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered where it is sharded; then all ranks must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(state: Mapping[Any, Any], *, keep: bool) -> dict[Any, Any]:
    """The state of a model or an optimiser with all tensors gathered; all ranks must call this.

    Args:
        state: Nested mappings with tensors, sharded or not.
        keep: Whether this rank needs the state; if not, sharded tensors become None and take no memory.
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
    """A copy of this rank's shard of a whole tensor, cut like `like`; of the whole tensor where `like` is not sharded.

    A view would keep the whole tensor in memory, and its file open.
    """
    if not isinstance(like, DTensor):
        return tensor.clone()
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None).clone()


def shared_moments(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimiser state whose moments are sharded like the optimiser's parameters."""
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
    """Lightning's strategy for FSDP2, with the same checkpoints as other strategies.

    Lightning's checkpoints number the moments in the order of the model's weights. In an optimiser with several groups
    the order is that of the groups, so moments would be assigned to other weights.

    Args:
        world: Number of ranks of all nodes.
    """

    def __init__(self, world: int) -> None:
        super().__init__(data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning restores the moments, through `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, on the first rank."""
        assert self.lightning_module is not None
        return gathered(self.lightning_module.state_dict(), keep=self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole moments, on the first rank."""
        return gathered(optimizer.state_dict(), keep=self.is_global_zero)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Maps the file into memory instead of reading it; a rank copies only its shards."""
        state: dict[str, Any] = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=weights_only)
        return state

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Loads this rank's shards of the weights."""
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        weights = {name: share(value, own.get(name, value)) for name, value in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(weights, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Loads this rank's shards of the moments."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(shared_moments(state, optimizer))
