"""Muon for the blocks' matrices, AdamW for everything else, behind one optimiser.

Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix before it steps; PyTorch has it for matrices alone. In
the first minutes of a masked autoencoder it learns far more per superpatch than AdamW; see docs/lab.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

Named = tuple[str, nn.Parameter]


def split_parameters(module: nn.Module) -> tuple[list[Named], list[Named]]:
    """Matrices inside Transformer blocks, and all other trainable parameters, by name."""
    trainable = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    matrices = [(name, parameter) for name, parameter in trainable if parameter.ndim == 2 and "blocks." in name]
    chosen = {name for name, _ in matrices}
    return matrices, [(name, parameter) for name, parameter in trainable if name not in chosen]


@final
class MuonAdamW(Optimizer):
    """Steps two optimisers as one; schedules, clipping and checkpoints see a single one.

    Args:
        matrices: Stepped by Muon, with updates scaled to AdamW's size so that one learning rate serves both.
        groups: Parameter groups stepped by AdamW.
        lr: Peak learning rate of both.
        betas: AdamW's.
        weight_decay: Muon's; AdamW's is in its groups.
        fused: Whether AdamW runs as one kernel.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        fused: bool = True,
    ) -> None:
        self.muon = Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = AdamW(groups, lr=lr, betas=betas, fused=fused)
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {"lr": lr, "fused": fused})
        self._share_groups()

    def _share_groups(self) -> None:
        """The parts step the very groups that schedules change."""
        count = len(self.muon.param_groups)
        self.muon.param_groups = self.param_groups[:count]
        self.adamw.param_groups = self.param_groups[count:]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()  # type: ignore[no-untyped-call]
        self.adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up both."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]
