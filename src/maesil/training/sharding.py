"""FSDP2: every rank keeps a shard of weights, gradients and moments, and gathers each block to compute it.

Checkpoints are not sharded, so a run can continue on any number of ranks, with or without sharding.
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
from maesil.models.transformer import TransformerBlock
from maesil.training.muon import MuonAdamW

ENTRIES = ("loss", "last_loss", "reconstruct")
"""Methods that training calls instead of `forward`; FSDP2 gathers the weights outside the blocks for them."""


def shard(model: Pretrainer, mesh: DeviceMesh) -> None:
    """Shards a model's weights over the ranks of a mesh: each block separately, the other weights together.

    Frozen weights are not sharded, because a codebook sets them in place, to the same values on all ranks.

    Args:
        model: Pretrainer with the same weights on every rank.
        mesh: One-dimensional mesh of ranks.
    """
    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    blocks = [module for module in model.modules() if isinstance(module, TransformerBlock)]
    for module in (*blocks, model):
        # The root is resharded too, so that all weights are sharded between steps.
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)
    for name in ENTRIES:
        register_fsdp_forward_method(model, name)


def whole(tensor: Tensor) -> Tensor:
    """Gathers a sharded tensor, and returns any other as it is. All ranks must call this for a sharded tensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(state: Mapping[Any, Any], *, keep: bool) -> dict[Any, Any]:
    """Gathers all tensors in the state of a model or an optimiser. All ranks must call this.

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
    """Copies this rank's shard of a tensor, sharded like `like`, or the whole tensor if `like` is not sharded.

    A view would keep the whole tensor in memory and its file open.
    """
    if not isinstance(like, DTensor):
        return tensor.clone()
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None).clone()


def shared_moments(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Shards the moments of an optimiser state like the optimiser's parameters."""
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

    Lightning's checkpoints number the moments in the order of the model's weights, but an optimiser with several groups
    numbers them in the order of its groups, so Lightning would assign moments to the wrong weights.

    Args:
        world: Number of ranks over all nodes.
    """

    def __init__(self, world: int) -> None:
        super().__init__(data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: Lightning restores the moments through `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns all weights, on the first rank."""
        assert self.lightning_module is not None
        return gathered(self.lightning_module.state_dict(), keep=self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Returns all moments, on the first rank."""
        return gathered(optimizer.state_dict(), keep=self.is_global_zero)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Maps the file into memory instead of reading it, as each rank copies only its shards."""
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
