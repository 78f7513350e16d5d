"""What a comparison came to: everything that its tables, figures and page are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maesil.evaluation.scores import Score


@dataclass(frozen=True)
class Cost:
    """What a model is, and what its training took.

    Attributes:
        parameters: Trained numbers.
        voxels: Voxels of a superpatch.
        latent_elements: Numbers that the encoder hands to the decoder, per superpatch.
        latent_bits: Bits that name them where they come from a codebook; None: each number is free.
        flops: Floating-point operations of a training step per superpatch, forwards and backwards, as PyTorch counts.
        steps: Optimiser steps done.
        superpatches: Superpatches trained on.
        seconds: Wall time of the training steps, without validation and start.
        memory_gib: Peak memory of the training process, or of the GPU.
    """

    parameters: int
    voxels: int
    latent_elements: int
    latent_bits: float | None
    flops: float
    steps: int
    superpatches: int
    seconds: float
    memory_gib: float

    @property
    def compression(self) -> float:
        """Voxels of a superpatch per number of its latent."""
        return self.voxels / self.latent_elements


VISIBLE, OWN_MASKS, EVERYTHING = "visible voxels", "others: own masks", "everything"
"""What a row of a table sees."""


@dataclass(frozen=True)
class Entrant:
    """One model of a comparison.

    Attributes:
        label: Its name in the comparison.
        model: Its kind, a name of `maesil.models.MODELS` or `UNTRAINED`.
        entries: Its rows in the tables: names in the scores.
        sees_all: Those of them that see every voxel, also those they are scored on, as the paper's autoencoders do.
        other_masks: Those of them that hide other voxels than the comparison's masks: their scores are of other voxels,
            so they are shown and neither ranked nor tested.
        cost: None for a model that learns nothing, and for one that failed before it was measured.
        failed: Why it has no scores; None where it has.
        run: Its run folder; None for a model that learns nothing.
    """

    label: str
    model: str
    entries: tuple[str, ...]
    sees_all: tuple[str, ...] = ()
    other_masks: tuple[str, ...] = ()
    cost: Cost | None = None
    failed: str | None = None
    run: Path | None = None

    def sees(self, entry: str) -> str:
        """What one of its rows sees, in words."""
        if entry in self.sees_all:
            return EVERYTHING
        return OWN_MASKS if entry in self.other_masks else VISIBLE


@dataclass(frozen=True)
class Comparison:
    """Models trained under one budget and scored under one protocol.

    Attributes:
        title: Of the page.
        ours: The entry that the others are tested against.
        budget: The training budget in words.
        entrants: In the order of the tables.
        scores: A row per scan, entry, metric and region.
        notes: Below every table: protocol notes, what the split means.
        commands: What makes this comparison again.
        settings: Names and values of what was equal for all, in words, grouped: for the page.
    """

    title: str
    ours: str
    budget: str
    entrants: tuple[Entrant, ...]
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    settings: Mapping[str, Mapping[str, str]]
