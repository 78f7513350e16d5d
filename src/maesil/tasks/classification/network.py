"""Classification on a pre-trained encoder: probes of frozen features, attentive pooling."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own abbreviation)
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from maesil.models.backbone import Backbone

RIDGE = 1e-2
"""Weight decay of the linear probe, on standardised features; not tuned."""
NEIGHBOURS = 5
TEMPERATURE = 0.07
"""Temperature of the neighbours' votes, by cosine similarity."""


@final
class AttentivePool(nn.Module):
    """One learned query that attends to all tokens, then a linear map.

    Args:
        width: Channels of a token (e).
        classes: Number of classes.
        heads: Number of attention heads; one if it does not divide `width`.
    """

    def __init__(self, width: int, classes: int, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.query, std=0.02)
        self.attention = nn.MultiheadAttention(width, heads if width % heads == 0 else 1, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(
        self, tokens: Float[Tensor, "b n e"], absent: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b classes"]:
        """Returns logits of sets of tokens; `absent` marks the padding of smaller sets."""
        tokens = self.norm(tokens)
        query = self.query.expand(len(tokens), -1, -1)
        pooled, _ = self.attention(query, tokens, tokens, key_padding_mask=absent, need_weights=False)
        logits: Tensor = self.head(pooled[:, 0])
        return logits


@final
class Classifier(nn.Module):
    """Encoder and attentive pooling, trained together.

    Args:
        backbone: The encoder; this network takes over its weights.
        classes: Number of classes.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = AttentivePool(backbone.width, classes)

    def forward(self, volume: Float[Tensor, "b 1 d h w"]) -> Float[Tensor, "b classes"]:
        """Returns logits of superpatches in window units."""
        logits: Tensor = self.pool(self.backbone.tokens(volume))
        return logits


def linear_probe(
    features: Float[Tensor, "s e"], truth: Int[Tensor, " s"], classes: int, others: Float[Tensor, "t e"]
) -> Float[Tensor, "t classes"]:
    """Probabilities of other cases from logistic regression: standardised features, L2 of `RIDGE`, L-BFGS.

    Args:
        features: Features of the training cases.
        truth: Classes of the training cases.
        classes: Number of classes.
        others: Features of the cases to predict.
    """
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0).clamp_min(1e-6)
    known, asked = ((values - mean) / deviation for values in (features, others))
    head = nn.Linear(features.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(head(known), truth) + RIDGE * head.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        probabilities: Tensor = head(asked).softmax(dim=1)
    return probabilities


def nearest_neighbours(
    features: Float[Tensor, "s e"], truth: Int[Tensor, " s"], classes: int, others: Float[Tensor, "t e"]
) -> Float[Tensor, "t classes"]:
    """Probabilities from votes of the `NEIGHBOURS` most similar training cases, by cosine of centred features."""
    mean = features.mean(dim=0)
    similarity = F.normalize(others - mean, dim=1) @ F.normalize(features - mean, dim=1).T
    value, place = similarity.topk(min(NEIGHBOURS, len(features)), dim=1)
    votes = torch.zeros(len(others), classes, dtype=features.dtype)
    votes.scatter_add_(1, truth[place], (value / TEMPERATURE).exp())
    return votes / votes.sum(dim=1, keepdim=True)


def attentive_probe(
    tokens: list[Float[Tensor, "_ e"]],
    truth: Int[Tensor, " s"],
    classes: int,
    others: list[Float[Tensor, "_ e"]],
    *,
    steps: int = 300,
    seed: int = 0,
) -> Float[Tensor, "t classes"]:
    """Probabilities from attentive pooling over frozen tokens: AdamW at 1e-3, `steps` batches of 8 cases.

    Args:
        tokens: Tokens of every training case; their number may differ.
        truth: Classes of the training cases.
        classes: Number of classes.
        others: Tokens of the cases to predict.
        steps: Number of optimiser steps.
        seed: Seed of initial weights and data order.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pool = AttentivePool(tokens[0].shape[1], classes)
    optimizer = torch.optim.AdamW(pool.parameters(), lr=1e-3, weight_decay=0.05)
    with torch.enable_grad():
        for _ in range(steps):
            chosen = torch.randint(len(tokens), (min(8, len(tokens)),), generator=generator).tolist()
            loss = F.cross_entropy(pool(*_padded([tokens[at] for at in chosen])), truth[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        return torch.cat([pool(one[None]) for one in others]).softmax(dim=1)


def _padded(sets: list[Float[Tensor, "_ e"]]) -> tuple[Float[Tensor, "b n e"], Bool[Tensor, "b n"]]:
    """Sets of tokens as one padded batch, and a mask of the padding."""
    sizes = torch.tensor([len(tokens) for tokens in sets])
    padded: Tensor = pad_sequence(sets, batch_first=True)
    return padded, torch.arange(padded.shape[1]) >= sizes[:, None]
