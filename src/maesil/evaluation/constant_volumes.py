"""A test of the decoder without data: a superpatch of one material must come back as one value."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from maesil.ct.window import Window
from maesil.evaluation.rebuild import device_of, inference_precision
from maesil.models.contract import Pretrainer, Reconstructor

MATERIALS_HU: Mapping[str, float] = {"air": -1000.0, "water": 0.0, "bone": 700.0}


@torch.inference_mode()
def constant_deviation(model: Reconstructor, window: Window, *, draws: int = 4, seed: int = 0) -> dict[str, float]:
    """How far reconstructed superpatches of air, water and bone are from constant.

    Args:
        model: The model, in evaluation mode and on its device.
        window: HU window mapped to [0, 1].
        draws: Number of masks drawn per material.
        seed: Seed of the masks.

    Returns:
        Material to the standard deviation of the masked voxels, in HU, averaged over masks.
    """
    device = device_of(model)
    mask = model.draw_mask(draws, torch.Generator().manual_seed(seed)).to(device)
    found = {}
    for material, hu in MATERIALS_HU.items():
        level = float(window.normalize(torch.tensor(hu)))
        constant = torch.full((draws, 1, *model.grid.superpatch), level, device=device)
        with inference_precision(device):
            rebuilt = model.reconstruct(constant, mask)
        rows = zip(rebuilt.volume.float(), rebuilt.mask, strict=True)
        deviations = [volume[hidden].std(correction=0).item() for volume, hidden in rows]
        found[material] = window.width_hu * sum(deviations) / draws
    return found


def constant_note(name: str, model: Reconstructor, window: Window) -> tuple[str, ...]:
    """A note below a table on how constant volumes are reconstructed; nothing for a model that learns nothing."""
    if not isinstance(model, Pretrainer):
        return ()
    found = ", ".join(
        f"{material} {deviation:.1f}" for material, deviation in constant_deviation(model, window).items()
    )
    return (f"{name}: constant volumes come back with a standard deviation over masked voxels, in HU, of: {found}.",)
