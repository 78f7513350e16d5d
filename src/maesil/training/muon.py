"""One optimiser that uses Muon for the blocks' matrices and AdamW for all other parameters.

Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix before each step; PyTorch's version accepts only
matrices. In the first minutes of training a masked autoencoder, it learns far more per superpatch than AdamW: see
docs/lab.md.

PyTorch's Muon multiplies in bfloat16 on every device. CPUs without bfloat16 instructions emulate it, and one optimiser
step of the preset `demo` took six times as long as its loss and gradient together. On such CPUs we take the same step
in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from maesil.training.devices import cpu_multiplies_bf16

Named = tuple[str, nn.Parameter]


def split_parameters(module: nn.Module) -> tuple[list[Named], list[Named]]:
    """Splits the trainable parameters into the matrices inside Transformer blocks and all others, with their names."""
    trainable = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    matrices = [(name, parameter) for name, parameter in trainable if parameter.ndim == 2 and "blocks." in name]
    chosen = {name for name, _ in matrices}
    return matrices, [(name, parameter) for name, parameter in trainable if name not in chosen]


@final
class MuonAdamW(Optimizer):
    """Steps Muon and AdamW together; schedules, clipping and checkpoints see a single optimiser.

    Args:
        matrices: Parameters of Muon. Its updates are scaled to the size of AdamW's, so one learning rate suits both.
        groups: Parameter groups of AdamW, with their weight decay.
        lr: Peak learning rate of both.
        betas: AdamW's two decay rates.
        weight_decay: Muon's weight decay.
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
        """Makes both optimisers use the group objects that schedules change."""
        count = len(self.muon.param_groups)
        self.muon.param_groups = self.param_groups[:count]
        self.adamw.param_groups = self.param_groups[count:]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step with both optimisers."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._emulates_bf16():
            muon_step(self.muon, torch.float32)
        else:
            self.muon.step()  # type: ignore[no-untyped-call]
        self.adamw.step()
        return loss

    def _emulates_bf16(self) -> bool:
        """Whether the matrices are on a CPU without bfloat16 instructions."""
        first = next((matrix for group in self.muon.param_groups for matrix in group["params"]), None)
        return first is not None and first.device.type == "cpu" and not cpu_multiplies_bf16()

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of both optimisers."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores both optimisers."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]


@torch.no_grad()
def muon_step(muon: Muon, dtype: torch.dtype) -> None:
    """Takes one step of PyTorch's Muon with matrix products in `dtype`. In bfloat16 it equals `muon.step()`.

    Args:
        muon: Optimiser whose parameters and momentum are updated; learning rates are adjusted by "match_rms_adamw".
        dtype: Data type of the products.
    """
    for group in muon.param_groups:
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = muon.state[matrix]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(matrix.grad)
            momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
            update = matrix.grad.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
            update = orthogonalize(update, group["ns_coefficients"], group["ns_steps"], group["eps"], dtype)
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonalize(
    matrix: Float[Tensor, "rows columns"],
    coefficients: tuple[float, float, float],
    steps: int,
    least_norm: float,
    dtype: torch.dtype,
) -> Float[Tensor, "rows columns"]:
    """Moves a matrix's singular values towards 1 by Newton-Schulz iterations of a quintic polynomial.

    Args:
        matrix: Matrix of any scale.
        coefficients: Coefficients of the singular value's first, third and fifth power.
        steps: Number of iterations.
        least_norm: Smallest Frobenius norm that the matrix is divided by.
        dtype: Data type of the products.
    """
    linear, cubic, quintic = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    wide = (matrix.T if tall else matrix).to(dtype)
    wide = wide / wide.norm().clamp(min=least_norm)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), wide, beta=linear)
    return wide.T if tall else wide
