"""One step over the paper's superpatch, on this machine's CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maesil.ct.phantom import phantom
from maesil.ct.window import Window
from maesil.models import make_model
from maesil.models.mae import MaskedAutoencoder
from maesil.presets import PRESETS
from maesil.training.devices import cpu_multiplies_bf16


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_paper__a_step_has_the_papers_tokens_visible_counts_and_shapes() -> None:
    config = PRESETS["paper"]()
    # No shape depends on the number of blocks, which is most of the time: `benchmarks step` takes whole steps.
    model = make_model(replace(config.model, encoder_depth=2, decoder_depth=2), config.masking)  # type: ignore[type-var]
    assert isinstance(model, MaskedAutoencoder)
    seen: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> object:
        return lambda module, inputs, output: seen.__setitem__(name, tuple(output.shape))

    model.encoder.register_forward_hook(record("latent"))  # type: ignore[arg-type]
    model.decoder.register_forward_hook(record("decoded"))  # type: ignore[arg-type]
    model.encoder.embed.register_forward_hook(record("embedded"))  # type: ignore[arg-type]
    model.decoder.blocks[-1].register_forward_pre_hook(  # as `wanted` reaches it, only masked tokens leave it
        lambda module, inputs: seen.__setitem__("decoding", tuple(inputs[0].shape))
    )
    model.decoder.head.register_forward_hook(record("predicted"))  # type: ignore[arg-type]
    hu = torch.from_numpy(phantom(shape=(128, 128, 128), spacing_mm=(2.0, 2.5, 2.5)).volume.array)
    superpatch = Window().normalize(hu.float())[None, None]
    mask = model.draw_mask(1, torch.Generator().manual_seed(0))
    # Emulated bf16 is fifty times as slow as fp32.
    with torch.autocast("cpu", torch.bfloat16, enabled=cpu_multiplies_bf16()):
        loss = model.loss(superpatch, mask)
    loss.backward()
    assert seen == {
        "embedded": (1, 1024, 768),
        "latent": (1, 1024, 768),
        "decoding": (1, 4096, 512),
        "decoded": (1, 3072, 512),
        "predicted": (1, 3072, 512),
    }
    assert loss.isfinite()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
