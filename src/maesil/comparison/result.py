"""What a comparison came to: everything that its tables, figures and page are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maesil.evaluation.scores import Score

BITS_PER_NUMBER = 32
"""Of a latent number that no codebook names: a float, as it is handed on."""


@dataclass(frozen=True)
class Cost:
    """What a model is, and what its training took.

    Attributes:
        parameters: Trained numbers.
        voxels: Voxels of a superpatch.
        latent_elements: Numbers that the encoder hands to the decoder, per superpatch; None: there is no bottleneck.
        latent_bits: Bits that name them where they come from a codebook; None: each number is free.
        flops: Floating-point operations of a training step per superpatch, forwards and backwards, as PyTorch counts.
        steps: Optimiser steps done.
        superpatches: Superpatches trained on, by all devices together.
        seconds: Wall time of the training steps, without validation and start.
        memory_gib: Peak memory of the training process, or of the GPU.
    """

    parameters: int
    voxels: int
    latent_elements: int | None
    latent_bits: float | None
    flops: float
    steps: int
    superpatches: int
    seconds: float
    memory_gib: float

    @property
    def compression(self) -> float | None:
        """Voxels of a superpatch per number of its latent; None without a bottleneck."""
        return self.voxels / self.latent_elements if self.latent_elements else None

    @property
    def bits(self) -> float | None:
        """Bits of a superpatch's latent: those that name codes, or `BITS_PER_NUMBER` for each free number."""
        if self.latent_bits is not None:
            return self.latent_bits
        return float(BITS_PER_NUMBER * self.latent_elements) if self.latent_elements else None

    @property
    def bits_per_voxel(self) -> float | None:
        """Bits of the latent per voxel: one scale for codes and for free numbers."""
        return None if self.bits is None else self.bits / self.voxels


VISIBLE, OWN_MASKS, TOLD, EVERYTHING = "visible voxels", "others: own masks", "visible voxels, and hints", "everything"
"""What a row of a table sees."""
SIGHTS = (VISIBLE, OWN_MASKS, TOLD, EVERYTHING)
"""In the order of the tables."""
RANKED = (VISIBLE, EVERYTHING)
"""Rows that compete, each with those that see the same. The others are shown only: with masks of their own they are
scored on other voxels, and with hints they are told something of the hidden ones."""


@dataclass(frozen=True)
class ModelResult:
    """One model of a comparison.

    Attributes:
        label: Its name in the comparison.
        model: Its kind, a name of `maesil.models.MODELS` or `UNTRAINED`.
        entries: Its rows in the tables, which are names in the scores, and what each sees, one of `SIGHTS`.
        title: Its name in tables and figures; empty: the label.
        plain: Whether it has the default settings of its kind.
        notes: What has to be said of it below a table.
        cost: Cost of a training, times and memory over all seeds; None for a model that learns nothing, and for one
            that failed before it was measured.
        failed: Why a training or its scores are missing; None where none is.
        run: Run folder of the first seed; None for a model that learns nothing.
        seeds: Training seeds with scores.
        stamp: Names the weights that were scored, such as "step 4000".
    """

    label: str
    model: str
    entries: Mapping[str, str]
    title: str = ""
    plain: bool = True
    notes: tuple[str, ...] = ()
    cost: Cost | None = None
    failed: str | None = None
    run: Path | None = None
    seeds: tuple[int, ...] = ()
    stamp: str = ""

    def shown(self, entry: str) -> str:
        """One of its rows as tables and figures name it."""
        return (self.title or self.label) + entry.removeprefix(self.label)


@dataclass(frozen=True)
class Comparison:
    """Models trained under one budget and scored under one protocol.

    Attributes:
        title: Of the page.
        ours: The entry that the others are tested against.
        budget: The training budget in words.
        results: In the order of the tables.
        scores: A row per scan, entry, metric and region.
        notes: Below every table: protocol notes, what the split means.
        commands: What makes this comparison again.
        settings: Names and values of what was equal for all, in words, grouped: for the page.
    """

    title: str
    ours: str
    budget: str
    results: tuple[ModelResult, ...]
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    settings: Mapping[str, Mapping[str, str]]

    @property
    def sees(self) -> Mapping[str, str]:
        """Row to what it sees."""
        return {entry: sees for result in self.results for entry, sees in result.entries.items()}

    def shown(self, entry: str) -> str:
        """A row as tables and figures name it."""
        return next((result.shown(entry) for result in self.results if entry in result.entries), entry)
