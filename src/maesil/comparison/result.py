"""The result of a comparison: everything that its tables, figures and page are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from maesil.evaluation.paired import pair
from maesil.evaluation.scores import Score
from maesil.evaluation.summary import summarize

OUR_MODEL = "maesil"
"""Kind of our own model, a name in `maesil.models.MODELS`."""
OURS = "ours"
"""The row of our own model, in words."""
BITS_PER_NUMBER = 32
"""Bits of a latent number that does not come from a codebook: the decoder receives a float."""


@dataclass(frozen=True)
class Cost:
    """The size of a model, and the cost of its training.

    Attributes:
        parameters: Number of trained parameters.
        voxels: Voxels of a superpatch.
        latent_elements: Numbers that the encoder passes to the decoder, per superpatch; None: there is no bottleneck.
        latent_bits: Bits that encode them if they come from a codebook; None: each number is free.
        flops: Floating-point operations of a training step per superpatch, forward and backward, as PyTorch counts.
        steps: Optimiser steps done.
        superpatches: Superpatches trained on, by all devices together.
        seconds: Wall time of the training steps, without validation and start-up.
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
        """Bits of a superpatch's latent: those that encode codes, or `BITS_PER_NUMBER` for each free number."""
        if self.latent_bits is not None:
            return self.latent_bits
        return float(BITS_PER_NUMBER * self.latent_elements) if self.latent_elements else None

    @property
    def bits_per_voxel(self) -> float | None:
        """Bits of the latent per voxel: one scale for both codes and free numbers."""
        return None if self.bits is None else self.bits / self.voxels


VISIBLE, OWN_MASKS, TOLD, EVERYTHING = "visible voxels", "others: own masks", "visible voxels, and hints", "everything"
"""What a row of a table sees."""
SIGHTS = (VISIBLE, OWN_MASKS, TOLD, EVERYTHING)
"""All of them, in the order of the tables."""
RANKED = (VISIBLE, EVERYTHING)
"""Rows that are ranked, among those that see the same. The others are only shown: rows with their own masks are scored
on other voxels, and rows with hints are given information about the hidden ones."""


@dataclass(frozen=True)
class ModelResult:
    """One model of a comparison.

    Attributes:
        label: The model's name in the comparison.
        model: Kind of model, a name in `maesil.models.MODELS` or `UNTRAINED`.
        entries: The model's rows in the tables (names in the scores) to what each sees, one of `SIGHTS`.
        title: The model's name in tables and figures; empty: the label.
        plain: Whether it has the default settings of its kind.
        notes: Notes on the model, below a table.
        cost: Cost of a training, with time and memory over all seeds; None for a model that learns nothing, and for
            one that failed before it was measured.
        failed: Why a training or its scores are missing; None if none are.
        run: Run folder of the first seed; None for a model that learns nothing.
        seeds: Training seeds with scores.
        stamp: Name of the weights that were scored, such as "step 4000".
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

    @property
    def delivered(self) -> str:
        """The row of what a user gets: the last of those that see what the first one sees, such as a fusion."""
        first = self.entries.get(self.label)
        return next((entry for entry, sees in reversed([*self.entries.items()]) if sees == first), self.label)

    def shown(self, entry: str) -> str:
        """The name of one of its rows in tables and figures."""
        return (self.title or self.label) + entry.removeprefix(self.label)


@dataclass(frozen=True)
class Comparison:
    """Models trained under one budget and scored under one protocol.

    Attributes:
        title: Title of the page.
        ours: The entry that the others are tested against.
        budget: The training budget in words.
        results: Results of the models, in the order of the tables.
        scores: One row per scan, entry, metric and region.
        notes: Lines below every table: protocol notes, what the split means.
        commands: Commands that reproduce this comparison.
        settings: Section to names and values of the shared settings, in words, for the page.
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

    @cached_property
    def summaries(self) -> pd.DataFrame:
        """Summaries of the scores, as `summarize` returns them."""
        return summarize(self.scores)

    @cached_property
    def paired(self) -> pd.DataFrame:
        """Differences of ranked rows from ours, as `pair` returns them; none if ours is not ranked itself."""
        unranked = [entry for entry, sees in self.sees.items() if sees not in RANKED]
        return pair(() if self.ours in unranked else self.scores, self.ours, unranked)

    @property
    def reference(self) -> str:
        """The row that the others are tested against, in words: `OURS`, or its name if it is not of our model."""
        ours = any(self.ours in result.entries and result.model == OUR_MODEL for result in self.results)
        return OURS if ours else self.shown(self.ours)

    def shown(self, entry: str) -> str:
        """The name of a row in tables and figures."""
        return next((result.shown(entry) for result in self.results if entry in result.entries), entry)
