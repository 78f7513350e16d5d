"""The commands `embed` and `similar`: a table of a store's features, and the neighbours in it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from maesil.encoder import features as table
from maesil.encoder.feature_file import require_table
from maesil.encoder.features import Match, read_features, write_features
from maesil.encoder.load import load_with_card
from maesil.encoder.start import flags_of
from maesil.encoder.tokens import TOGETHER
from maesil.errors import NoStoreError
from maesil.files import AnyPath
from maesil.progress import Progress
from maesil.runs.load import default_device
from maesil.seen import seen_note
from maesil.store.scanstore import ScanStore


def embed(
    run: str | Path,
    store: AnyPath,
    out: AnyPath,
    *,
    groups: tuple[int, int] = TOGETHER,
    console: Console | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes one vector per scan and per superpatch of a store, with positions in mm.

    Args:
        run: Anything `maesil.load` accepts.
        store: The scans, resampled as for the pre-training.
        out: The table: .parquet, .csv or .npz.
        groups: Blocks of planes, and parts of each plane, that are encoded apart; (2, 2) shows the encoder as many
            tokens at once as a dual mask of 75 % did in pre-training. Compare only vectors of the same groups.
        console: Where to report how many of the patients the encoder was trained on; None: nowhere.
        progress: Called after every scan.

    Raises:
        ConfigError: The suffix is another one, another file than a table of features has this name, or the store's
            voxels differ from the pre-training's.
        StoreError: There is no store.
        MissingExtraError: Parquet needs pyarrow.
    """
    store, out = Path(store), Path(out)
    require_table(out)
    backbone, card = load_with_card(run)
    try:
        scans = ScanStore(store)
    except NoStoreError as error:
        fix = f"write one for this encoder with `maesil prepare SCANS --out STORE {flags_of(card.voxels)}`"
        raise NoStoreError(error.what, where=store, fix=fix) from None
    features = table.embed(backbone.to(default_device()), card, scans, groups=groups, progress=progress)
    if console is not None:
        embedded = set(features.texts["scan_id"])
        for entry in scans.entries:
            if entry.scan_id not in embedded:
                console.print(f"warning: {entry.scan_id}: not in the table, as it is nearly all air", markup=False)
        there = [entry for entry in scans.entries if entry.scan_id in embedded]
        console.print(seen_note(card.seen, there, whom="embedded", scored=False), markup=False)
    return write_features(features, out)


def similar(
    features: AnyPath,
    scan_id: str,
    *,
    at_mm: tuple[float, float, float] | None = None,
    count: int = 5,
    same_patient: bool = False,
) -> list[Match]:
    """Finds the scans nearest to a scan or, with a position, the regions nearest to its region there.

    Args:
        features: The table that `embed` wrote.
        scan_id: The query scan.
        at_mm: A position in LPS mm; None: whole scans are compared.
        count: Number of neighbours.
        same_patient: Whether the query's own patient may be among them.
    """
    features = Path(features)
    level = "scan" if at_mm is None else "superpatch"
    found = read_features(features)
    return table.similar(found, scan_id, level=level, at_mm=at_mm, count=count, same_patient=same_patient)
