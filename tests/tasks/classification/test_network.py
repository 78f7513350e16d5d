from __future__ import annotations

import torch

from backbones import random_volume, small_backbone
from maesil.tasks.classification.network import (
    AttentivePool,
    Classifier,
    attentive_probe,
    linear_probe,
    nearest_neighbours,
)


def clouds(seed: int, per_class: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Three clouds of features around corners."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(3).repeat_interleave(per_class)
    return torch.randn(3 * per_class, 16, generator=generator) * 0.4 + torch.eye(16)[truth] * 3, truth


def test_linear_probe__tells_clouds_apart() -> None:
    known, truth = clouds(0)
    others, wanted = clouds(1)
    told = linear_probe(known, truth, 3, others * 1.0)
    assert torch.allclose(told.sum(dim=1), torch.ones(len(others)))
    assert (told.argmax(dim=1) == wanted).float().mean() > 0.95


def test_linear_probe__a_feature_without_spread_does_no_harm() -> None:
    known, truth = clouds(0)
    known[:, 5] = 7.0
    assert linear_probe(known, truth, 3, known).isfinite().all()


def test_nearest_neighbours__tells_clouds_apart() -> None:
    known, truth = clouds(0)
    others, wanted = clouds(1)
    told = nearest_neighbours(known, truth, 3, others)
    assert torch.allclose(told.sum(dim=1), torch.ones(len(others)))
    assert (told.argmax(dim=1) == wanted).float().mean() > 0.95
    assert nearest_neighbours(known[:2], truth[:2], 3, others).isfinite().all(), "fewer cases than neighbours"


def test_attentive_probe__finds_the_one_token_that_tells() -> None:
    """Cases are sets of noise with one token that has the class: the mean hides it, attention finds it."""
    generator = torch.Generator().manual_seed(0)

    def case(k: int) -> torch.Tensor:
        tokens = torch.randn(int(torch.randint(10, 30, (1,), generator=generator)), 16, generator=generator)
        tokens[3, 0], tokens[3, 1] = 12.0, 12.0 if k else -12.0
        return tokens

    truth = torch.arange(2).repeat(12)
    tokens, others = ([case(int(k)) for k in truth] for _ in range(2))
    told = attentive_probe(tokens, truth, 2, others, steps=150)
    assert (told.argmax(dim=1) == truth).float().mean() > 0.9
    assert torch.equal(told, attentive_probe(tokens, truth, 2, others, steps=150)), "a seed decides it"


def test_classifier__gradients_everywhere() -> None:
    backbone = small_backbone()
    model = Classifier(backbone, 3)
    model(random_volume(backbone)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_attentive_pool__order_of_tokens_does_not_matter() -> None:
    torch.manual_seed(0)
    pool = AttentivePool(16, 2).eval()
    tokens = torch.randn(1, 9, 16)
    torch.testing.assert_close(pool(tokens), pool(tokens[:, torch.randperm(9)]))
