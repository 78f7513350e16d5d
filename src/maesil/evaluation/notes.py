"""Notes below a table: what the models saw, and what the split means."""

from __future__ import annotations

from collections.abc import Sequence

from maesil.counts import count_of
from maesil.masking import Masking
from maesil.models import ModelConfig, Reconstructor
from maesil.sampling.config import DataConfig
from maesil.sampling.regions import Region
from maesil.store.scanstore import ScanStore


def checkpoint_note(checkpoint: str, step: int) -> str:
    """Which weights were scored."""
    return f"Checkpoint '{checkpoint}', step {step:,}."


def input_note(model: ModelConfig, masking: Masking, store: ScanStore) -> str:
    """What the models saw: superpatches, masking, voxels."""
    superpatch, patch = ("x".join(map(str, size)) for size in (model.superpatch, model.patch))
    sizes = (
        (each["policy"], f" {each['spacing_mm']:g} mm" if "spacing_mm" in each else "")
        for each in store.settings_of_all
    )
    voxels = " and ".join(dict.fromkeys(f"{policy}{spacing}" for policy, spacing in sizes))
    return (
        f"Superpatches of {superpatch} voxels, patches of {patch}, {masking.name} masking of "
        f"{masking.masked_count(model.grid) / model.grid.tokens:.1%}; voxels: {voxels}."
    )


def told_note(name: str, model: Reconstructor) -> tuple[str, ...]:
    """What a model is given about the voxels that are hidden from the others; empty if nothing."""
    return (f"{name}: told {model.hints}, hidden patches too; other rows are not.",) if model.hints else ()


def split_note(data: DataConfig, split: str, regions: Sequence[Region]) -> str:
    """What the split means, in a sentence; `maesil.seen` reports which of its patients were trained on."""
    patients = len({region.entry.patient for region in regions})
    if data.holdout.by == "patient":
        return held_out_note(split, patients, 0)
    return held_out_note(split, patients, patients, sum(len(region.tiles) for region in regions))


def held_out_note(split: str, patients: int, trained: int, superpatches: int | None = None) -> str:
    """What was held out, in a sentence.

    Args:
        split: Name of the split that was scored.
        patients: Number of patients in the split.
        trained: Number of these patients whose other scans or superpatches were trained on.
        superpatches: Number of superpatches that were scored; None: whole scans were scored.
    """
    if superpatches is None and not trained:
        return f"Split '{split}' by patient: {count_of(patients, 'patient')}."
    kind, scored = (
        ("scan", "scans")
        if superpatches is None
        else ("superpatch", count_of(superpatches, "superpatch", "superpatches"))
    )
    others = f"other {kind}{'s' if superpatches is None else 'es'}"
    whose = f" whose {others}" if trained == patients else f"; {others} of {trained} of them"
    return (
        f"Split '{split}' by {kind}: {scored} of {count_of(patients, 'patient')}{whose} were trained on. "
        "This shows that the method learns; it says nothing about unseen patients."
    )


def folds_note(folds: int) -> str:
    """What folds by patient hold out, in a sentence."""
    return f"{count_of(folds, 'fold')} by patient: every scan is scored by a model that saw no scan of its patient."
