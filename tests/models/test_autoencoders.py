"""The paper's baselines: the bottleneck, the KL term, the codebook."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from maesil.errors import ConfigError
from maesil.masking import DualMasking
from maesil.models import MODELS, AEConfig, MAEConfig, VAEConfig, VQVAEConfig, make_model, vae
from maesil.models.ae import AE
from maesil.models.codebook import Codebook
from maesil.models.vae import VAE
from maesil.models.vqvae import VQVAE
from maesil.presets import PRESETS, demo
from maesil.presets.baselines import baseline
from maesil.sampling.augment import draw_generators

SMALL = {"superpatch": (16, 16, 16), "channels": (8, 16), "latent_channels": 4}


def batch(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(seed))


def mask_of(model: AE | VAE | VQVAE) -> torch.Tensor:
    return model.draw_mask(2, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["ae", "vae", "vqvae"])
@pytest.mark.parametrize("preset", ["demo", "base", "paper"])
def test_baseline__has_as_many_latent_numbers_as_our_encoder_hands_on(name: str, preset: str) -> None:
    beside = PRESETS[preset]()
    assert isinstance(beside.model, MAEConfig)
    config = baseline(name, beside).model
    assert not isinstance(config, MAEConfig)
    assert (
        config.positions * config.latent_channels
        == beside.masking.visible_count(beside.model.grid) * beside.model.encoder_width
    )


@pytest.mark.parametrize("name", MODELS)
def test_baseline__changes_model_and_optimiser_only(name: str) -> None:
    ours, theirs = demo(), baseline(name, demo())
    assert theirs.model.name == name
    assert (theirs.data, theirs.masking, theirs.seed) == (ours.data, ours.masking, ours.seed)
    assert (theirs.train.steps, theirs.train.batch) == (ours.train.steps, ours.train.batch)


def test_baseline__refuses_to_stand_beside_another() -> None:
    with pytest.raises(ConfigError, match="to match a masked autoencoder"):
        baseline("vae", baseline("ae", demo()))


def test_config__refuses_levels_that_do_not_divide() -> None:
    with pytest.raises(ConfigError, match="do not halve"):
        AEConfig(superpatch=(16, 16, 24), channels=(4, 4, 4, 4))


def test_corrupt__shows_the_visible_voxels_only() -> None:
    model = AE(AEConfig(**SMALL, corrupt=True), DualMasking())
    x, mask = batch(), mask_of(model)
    spoiled = torch.where(model.voxel_mask(mask), 1.0 - x, x)
    torch.testing.assert_close(model.training_input(x, mask), model.training_input(spoiled, mask))
    assert list(model.entries("ae")) == ["ae"]


def test_vae__divergence_is_the_textbooks() -> None:
    model = VAE(VAEConfig(**SMALL, kl_per_voxel=0.5, kl_warmup=0.0), DualMasking())
    x, mask = batch(), mask_of(model)
    loss = model.loss(x, mask, draw_generators(x.device, 0, range(len(x))), 0.9)
    mean, log_variance = model.posterior(model.normalize(x))
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).flatten(1).sum(1).mean()
    measures = model.measures()
    torch.testing.assert_close(measures["kl_nats"], expected.detach())
    torch.testing.assert_close(loss, measures["error"] + 0.5 * expected / 16**3)


def centre_taps(model: VAE) -> None:
    """Leaves every convolution its middle tap alone, so that no voxel is nearer to a border than another."""
    for parameter in model.parameters():
        if parameter.dim() == 5 and parameter.shape[-1] == 3:
            middle = parameter.data[..., 1:2, 1:2, 1:2].clone()
            parameter.data.zero_()[..., 1:2, 1:2, 1:2] = middle


def test_vae__terms_are_in_the_same_proportion_at_every_size_of_superpatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "_noise", lambda like, stream: torch.zeros_like(like))
    x, shares = batch(), []
    for times in (1, 2):
        torch.manual_seed(0)
        config = VAEConfig(**SMALL, kl_per_voxel=3.0, kl_warmup=0.0)
        model = VAE(replace(config, superpatch=(16 * times,) * 3), DualMasking())
        centre_taps(model)
        loss = model.loss(x.repeat(1, 1, times, times, times), mask_of(model))
        shares.append((loss - model.measures()["error"]) / model.measures()["error"])
    assert shares[0] > 1e-3
    torch.testing.assert_close(shares[1], shares[0])


def test_vae__loss_is_the_evidence_lower_bound_with_a_variance_of_half_the_weight() -> None:
    """-ELBO = -log N(x; rebuilt, w / 2) + KL, per voxel, times w, less the constant of the density."""
    weight = 0.8
    model = VAE(VAEConfig(**SMALL, kl_per_voxel=weight, kl_warmup=0.0), DualMasking())
    x, mask = batch(), mask_of(model)
    loss = model.loss(x, mask, draw_generators(x.device, 0, range(len(x))), 0.9)
    mean, log_variance = model.posterior(model.normalize(x))
    streams = draw_generators(x.device, 0, range(len(x)))
    noise = torch.stack([torch.randn(one.shape, generator=stream) for one, stream in zip(mean, streams, strict=True)])
    posterior = Normal(mean, (0.5 * log_variance).exp())
    seen = Normal(model.decoder(posterior.loc + noise * posterior.scale), (weight / 2) ** 0.5)
    divergence = kl_divergence(posterior, Normal(0.0, 1.0)).sum() / len(x)
    bound = divergence - seen.log_prob(model.normalize(x)).sum() / len(x)
    constant = 0.5 * math.log(math.pi * weight)
    torch.testing.assert_close(loss, weight * (bound / 16**3 - constant))


def test_vae__weight_rises_from_zero() -> None:
    config = VAEConfig(**SMALL, kl_per_voxel=0.2, kl_warmup=0.5)
    weights = [config.kl_weight_at(progress) for progress in (0.0, 0.25, 0.5, 0.9)]
    assert weights == pytest.approx([0.0, 0.1, 0.2, 0.2])


@pytest.mark.slow
def test_vae__a_great_weight_collapses_and_the_default_does_not() -> None:
    """The paper's VAE scores 11.91 dB with an SSIM of 0.25: it says nothing of its input."""
    active = {}
    for weight in (250_000.0, VAEConfig.kl_per_voxel):
        torch.manual_seed(0)
        model = VAE(VAEConfig(**SMALL, kl_per_voxel=weight, kl_warmup=0.0), DualMasking())
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for step in range(150):
            x = torch.rand(8, 1, 4, 4, 4, generator=torch.Generator().manual_seed(step))
            x = torch.nn.functional.interpolate(x, scale_factor=4, mode="trilinear")
            mask, generators = (
                model.draw_mask(8, torch.Generator().manual_seed(0)),
                draw_generators(x.device, step, range(8)),
            )
            optimizer.zero_grad()
            model.loss(x, mask, generators).backward()
            optimizer.step()
        active[weight] = float(model.measures()["latent_active_share"])
    assert active[250_000.0] == 0.0
    assert active[VAEConfig.kl_per_voxel] > 0.9


def latent(seed: int, clusters: int = 4) -> torch.Tensor:
    """Vectors around a few centres."""
    generator = torch.Generator().manual_seed(seed)
    centres = 5.0 * torch.eye(clusters, 4)
    chosen = centres[torch.randint(clusters, (2, 4, 4, 4), generator=generator)]
    return chosen.movedim(-1, 1) + 0.01 * torch.randn(2, 4, 4, 4, 4, generator=generator)


def test_codebook__follows_what_it_encodes() -> None:
    torch.manual_seed(0)
    book = Codebook(8, 4, commitment=0.25, decay=0.9)
    for seed in range(60):
        quantized, _ = book(latent(seed), torch.Generator().manual_seed(seed))
    assert (quantized - latent(59)).abs().max() < 0.1
    assert 0.4 < float(book.usage) <= 1.0
    assert float(book.perplexity) >= 3.5


def test_codebook__dead_codes_become_vectors_of_the_batch() -> None:
    torch.manual_seed(0)
    book = Codebook(16, 4, commitment=0.25, decay=0.5)
    for seed in range(10):
        book(latent(seed, clusters=1), torch.Generator().manual_seed(seed))
    for seed in range(10, 40):
        book(latent(seed, clusters=4), torch.Generator().manual_seed(seed))
    distances = torch.cdist(5.0 * torch.eye(4), book.quantizer.embedding.weight)
    assert (distances.min(dim=1).values < 0.5).all()
    assert (distances.min(dim=0).values < 0.5).all(), "a code lies where nothing is"


def scan(seed: int, air: float = 0.4) -> torch.Tensor:
    """Vectors of which a share is the same, and the others lie anywhere, most near the middle."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(2, 4, 8, 8, 8, generator=generator)
    return torch.where(torch.rand(2, 1, 8, 8, 8, generator=generator) < air, 3.0, vectors)


def test_codebook__dead_codes_do_not_become_what_a_code_says_already() -> None:
    torch.manual_seed(0)
    book = Codebook(64, 4, commitment=0.25, decay=0.9)
    book(scan(0, air=0.99), torch.Generator().manual_seed(0))
    assert book.revived == 64  # the first step's codes are vectors drawn alike, nearly all of them air
    for seed in range(1, 16):
        book(scan(seed), torch.Generator().manual_seed(seed))
    in_air = (book.quantizer.embedding.weight - 3.0).abs().amax(dim=1) < 0.1
    assert in_air.sum() <= 2


def test_vqvae__revival_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of an uneven distribution, two fifths of it air, are met unevenly for ever: some are always dead."""
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig(**SMALL, codes=128, decay=0.8), DualMasking()).train()
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(model, "encoder", nn.Identity())
    monkeypatch.setattr(model, "training_input", lambda superpatch, mask: seen[-1])
    revived = []
    for step in range(60):
        seen.append(scan(step))
        generators = draw_generators(seen[-1].device, step, range(2))
        model.loss(torch.rand(2, 1, 32, 32, 32), mask_of(model), generators, step / 60)
        revived.append(int(model.measures()["codebook_revived"]))
    assert revived[0] == 128
    assert sum(revived[20:30]) > 0
    assert revived[30:] == [0] * 30


def test_codebook__gradient_passes_straight_through() -> None:
    book = Codebook(8, 4, commitment=0.25, decay=0.9).eval()
    x = latent(0).requires_grad_()
    quantized, _ = book(x)
    quantized.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_codebook__learns_in_training_mode_only() -> None:
    book = Codebook(8, 4, commitment=0.25, decay=0.9)
    before = {name: tensor.clone() for name, tensor in book.state_dict().items()}
    book.nearest(latent(0))
    book.eval()(latent(0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in book.state_dict().items())
    book.train()(latent(0))
    assert not torch.equal(book.quantizer.embedding.weight, before["quantizer.embedding.weight"])


def test_vqvae__states_its_bits() -> None:
    model = make_model(VQVAEConfig(**SMALL, codes=16), DualMasking())
    assert model.latent is not None
    assert (model.latent.elements, model.latent.bits) == (64 * 4, 64 * 4.0)
