"""Unifies several collections into one dataset: finds, inspects, splits and lists their scans."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maesil.catalog import nearest
from maesil.counts import count_of
from maesil.ct.readers.base import Facts
from maesil.ct.readers.options import STRICT, ReadOptions
from maesil.datasets.copies import copies_among
from maesil.datasets.facts import facts_of_all
from maesil.datasets.find import find_scans
from maesil.datasets.labels import given_labels_text, unclaimed_text
from maesil.datasets.layouts import LAYOUTS
from maesil.datasets.manifest import earlier_scans, is_manifest, kept_splits, with_split, write_manifest
from maesil.datasets.names_beside import names_beside_text, with_names_beside
from maesil.datasets.overview import Overview, draw_splits, one_of_copies, overview
from maesil.datasets.own_files import outputs_text
from maesil.datasets.salt import kept_salt
from maesil.datasets.scan import FoundScans, Match, Problem, Scan
from maesil.datasets.splits import SPLITS, SplitConfig
from maesil.datasets.weighting import Weighting
from maesil.errors import ConfigError
from maesil.files import AnyPath, as_paths, require_json, require_own
from maesil.progress import Progress


@dataclass(frozen=True)
class Unified:
    """Several collections as one dataset.

    Attributes:
        collections: Table I, with one row per collection.
        patients: Number of patients of all collections; those who share the bytes of a scan are one.
        scans: All usable scans, with their splits.
        problems: Files that cannot be used, with reasons.
        notices: Notes for users of labels and splits.
        matched: Layout that was recognised for each source, and why.
    """

    collections: tuple[Overview, ...]
    patients: int
    scans: tuple[Scan, ...]
    problems: tuple[Problem, ...]
    notices: tuple[Problem, ...]
    matched: tuple[Match, ...]


def unify(
    roots: AnyPath | Sequence[AnyPath],
    *,
    layout: str | None = None,
    dataset: str | None = None,
    keep_names: bool = False,
    splits: SplitConfig | None = None,
    out: AnyPath | None = None,
    weighting: Weighting = "by-scan",
    temperature: float = 0.5,
    options: ReadOptions = STRICT,
    progress: Progress | None = None,
) -> Unified:
    """Finds the scans of several roots, reads their headers, splits them by patient, and lists them.

    Args:
        roots: Folders of collections.
        layout: Layout of the roots, if known; None: recognised from the files of each root.
        dataset: Name for all of them; None: each collection's own.
        keep_names: Whether to keep the names of files and folders that are not recognisably harmless.
        splits: Shares, seed and overrides; a collection's own split takes precedence over the shares.
        out: File of the list to write, for `maesil prepare`; patients in an earlier list keep their split.
        weighting: Weighting for the training shares in Table I; the list does not keep it.
        temperature: Power for the weighting "temperature".
        options: What to do about scans that are refused otherwise; the list does not keep it.
        progress: Function called after every inspected scan.

    Raises:
        ConfigError: A root does not exist, none holds a scan, the list cannot be written, its name does not end in
            .json, or the temperature is not in [0, 1].
    """
    roots = as_paths(roots)
    out = None if out is None else require_own(require_json(Path(out)), is_manifest, "datasets --out")
    known = {scan.scan_id: scan.dataset for scan in earlier_scans(out)} if out is not None else {}
    found = _named(find_scans(roots, dataset, kept_salt, keep_names=keep_names, known=known.get, layout=layout))
    looked = facts_of_all(found.scans, progress, options)
    pairs = list(zip(found.scans, looked, strict=True))
    facts = {scan.scan_id: fact for scan, fact in pairs if isinstance(fact, Facts)}
    broken = [Problem(s.shown, f.what, f.fix or "", s.path) for s, f in pairs if not isinstance(f, Facts)]
    whole = [scan for scan in found.scans if scan.scan_id in facts]
    copies = copies_among(whole)
    one_of = one_of_copies(whole, copies)
    drawn = draw_splits(whole, splits or SplitConfig(), kept_splits(out) if out is not None else {}, one_of)
    scans = tuple(with_split(scan, drawn[scan.dataset, scan.patient]) for scan in whole)
    layouts = _layouts(found)
    if out is not None:
        write_manifest(out, scans, facts, {name: layout for name, (layout, _) in layouts.items()})
    return Unified(
        collections=tuple(overview(scans, facts, layouts, one_of, weighting, temperature)),
        patients=len({one_of[scan.patient] for scan in scans}),
        scans=scans,
        problems=(*found.problems, *broken, *_unknown_patients(found.scans, splits or SplitConfig())),
        notices=(
            *found.notices,
            *([Problem(".", given_labels_text(found.given_labels))] if found.given_labels else []),
            *([Problem(".", unclaimed_text(found.taken_for_labels))] if found.taken_for_labels else []),
            *([Problem(".", outputs_text(found.outputs))] if found.outputs else []),
            *([Problem(".", names_beside_text(found.named_by))] if found.named_by else []),
            *map(_copied, copies),
            *_empty_splits(scans),
        ),
        matched=found.matched,
    )


def _named(found: FoundScans) -> FoundScans:
    """The scans with the names of label numbers beside them; each file that cannot be read is a problem."""
    refused = list[ConfigError]()
    found = with_names_beside(found, refused.append)
    problems = (Problem(".", one.what, one.fix or "", Path(one.where) if one.where else None) for one in refused)
    return replace(found, problems=(*found.problems, *problems))


def _layouts(found: FoundScans) -> dict[str, tuple[str, str]]:
    """Map from dataset to the name of its layout and its region."""
    places = {match.source: place for place, match in enumerate(found.matched)}
    first: dict[str, int] = {}
    for scan in found.scans:
        for source in (scan.path, *scan.path.parents):
            if (place := places.get(source)) is not None:
                first[scan.dataset] = min(place, first.get(scan.dataset, place))
    layouts = {dataset: found.matched[place].layout for dataset, place in first.items()}
    kinds = {layout: LAYOUTS.get(layout) for layout in layouts.values()}
    return {
        dataset: (layout, kind.region if (kind := kinds[layout]) is not None else "")
        for dataset, layout in layouts.items()
    }


def _unknown_patients(scans: Sequence[Scan], splits: SplitConfig) -> list[Problem]:
    """Overrides of unknown patients: a typo would put a test patient into training."""
    known = {scan.patient for scan in scans}
    return [
        Problem(".", f"no patient is called '{name}', which --splits.overrides assigns to {split}", _guess(name, known))
        for name, split in splits.overrides.items()
        if name not in known
    ]


def _guess(name: str, known: Collection[str]) -> str:
    guess = nearest(name, known)
    return f"did you mean '{guess}'?" if guess else "use a name from the field patient of the list"


def _copied(scans: Sequence[Scan]) -> Problem:
    named = ", ".join(f"{scan.scan_id} ({scan.place})" for scan in scans)
    what = f"{count_of(len(scans), 'scan')} have the same bytes: {named}"
    fix = "remove the copies; patients without a split of their own collection are in one"
    return Problem(".", what, fix, scans[0].path)


def _empty_splits(scans: Sequence[Scan]) -> list[Problem]:
    empty = [split for split in SPLITS if not any(scan.split == split for scan in scans)]
    fix = "assign patients to it: --splits.overrides PATIENT SPLIT ..., or change --splits.fractions"
    return [Problem(".", f"the split '{split}' is empty", fix) for split in empty]
