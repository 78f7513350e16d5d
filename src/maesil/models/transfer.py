"""Copies weights into another network and reports every tensor, so that none stays random unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maesil.errors import CheckpointError

Resize = Callable[[Tensor, Tensor], Tensor | None]
"""Function (given, wanted) -> the given tensor in the shape of the wanted one, or None where this is impossible."""

SHOWN = 8
"""Number of names that an error lists for each kind."""


@dataclass(frozen=True)
class TransferReport:
    """The result of a transfer, for every tensor.

    Attributes:
        loaded: Names in the network whose tensors were copied unchanged.
        resized: Names in the network whose tensors were copied in another shape, such as interpolated positions.
        dropped: Names of given tensors that the network does not have.
        random: Names in the network without a given tensor, which keep their initial values.
    """

    loaded: tuple[str, ...]
    resized: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    random: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the network's tensors that were filled, in [0, 1]."""
        filled = len(self.loaded) + len(self.resized)
        return filled / max(1, filled + len(self.random))

    @property
    def complete(self) -> bool:
        """Whether every given tensor was used, and every tensor of the network filled."""
        return not self.dropped and not self.random

    def __str__(self) -> str:
        filled = len(self.loaded) + len(self.resized)
        head = f"{filled} of {filled + len(self.random)} tensors filled ({self.share:.0%})"
        kinds = (("resized", self.resized), ("left random", self.random), ("dropped", self.dropped))
        return "; ".join([head, *(f"{kind}: {listed(names)}" for kind, names in kinds if names)])


def transfer(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    resize: Mapping[str, Resize] | None = None,
    partial: bool = False,
    where: object = None,
) -> TransferReport:
    """Copies weights into a network by name, and reports the result for each.

    Args:
        network: Network to fill, in place; unchanged where this raises.
        weights: Tensors by name.
        resize: Functions by name in the network, which give a tensor of another shape the wanted shape.
        partial: Whether tensors may stay random or be dropped. If not, anything below 100 % is an error.
        where: Name of the file, for errors.

    Raises:
        CheckpointError: A tensor is missing, left over or of another shape, and `partial` is not set.
    """
    wanted = network.state_dict()
    filled, resized, misshapen = {}, [], {}
    for name, tensor in weights.items():
        if name not in wanted:
            continue
        fitting = _fitted(tensor, wanted[name], (resize or {}).get(name))
        if fitting is None:
            misshapen[name] = f"{name} is {_shape(tensor)}, the network wants {_shape(wanted[name])}"
            continue
        filled[name] = fitting
        if fitting is not tensor:
            resized.append(name)
    report = TransferReport(
        loaded=tuple(name for name in filled if name not in resized),
        resized=tuple(resized),
        dropped=tuple(name for name in weights if name not in filled),
        random=tuple(name for name in wanted if name not in filled),
    )
    if not report.complete and not partial:
        raise _refusal(report, misshapen, where)
    with torch.no_grad():
        for name, tensor in filled.items():
            wanted[name].copy_(tensor)
    return report


def listed(names: tuple[str, ...]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _fitted(tensor: Tensor, wanted: Tensor, resize: Resize | None) -> Tensor | None:
    if tensor.shape == wanted.shape:
        return tensor
    changed = None if resize is None else resize(tensor, wanted)
    return changed if changed is not None and changed.shape == wanted.shape else None


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _refusal(report: TransferReport, misshapen: Mapping[str, str], where: object) -> CheckpointError:
    missing = tuple(name for name in report.random if name not in misshapen)
    left_over = tuple(name for name in report.dropped if name not in misshapen)
    parts = [f"shapes differ: {listed(tuple(misshapen.values()))}"] if misshapen else []
    parts += [f"absent from the weights: {listed(missing)}"] if missing else []
    parts += [f"without a place in the network: {listed(left_over)}"] if left_over else []
    return CheckpointError(
        f"the weights fill {report.share:.0%} of the network; {'; '.join(parts)}",
        where=where,
        fix="build the network with the checkpoint's own sizes (transfer.json); or accept it with partial=True",
    )
