"""One rank of a training step: python ddp_gradients.py RANK WORLD FOLDER writes the gradients that rank 0 ends with.

The global batch of four superpatches and its masks are the same for any number of ranks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from maesil.masking import DualMasking
from maesil.models.mae import MAEConfig, MaskedAutoencoder

TINY = MAEConfig(
    superpatch=(32, 32, 32), encoder_width=24, encoder_depth=1, encoder_heads=2,
    decoder_width=12, decoder_depth=1, decoder_heads=2,
)  # fmt: skip


class LossOf(nn.Module):
    """DDP synchronises what goes through `forward`; Lightning sends `training_step` through it in the same way."""

    def __init__(self, model: MaskedAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, superpatch: Tensor, mask: Tensor) -> Tensor:
        return self.model.loss(superpatch, mask)


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous-{world}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    torch.manual_seed(0)
    model = MaskedAutoencoder(TINY, DualMasking())
    nn.init.normal_(model.decoder.head.weight, std=0.02)
    generator = torch.Generator().manual_seed(1)
    superpatch, mask = torch.rand(4, 1, 32, 32, 32, generator=generator), model.draw_mask(4, generator)
    mine = slice(rank * 4 // world, (rank + 1) * 4 // world)
    synchronised = DistributedDataParallel(LossOf(model))  # must outlive the backward pass
    synchronised(superpatch[mine], mask[mine]).backward()
    if rank == 0:
        gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert len(gradients) == len(list(model.parameters()))
        save_file(gradients, folder / f"gradients-{world}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
