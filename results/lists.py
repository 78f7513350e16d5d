"""Writes the lists of scans from which `maesil prepare` makes the stores for the results, using `split.json`.

    python results/lists.py SCANS --out lists      (writes lists/2mm.json, lists/4mm.json and lists/sarcoma.json)
    maesil prepare lists/2mm.json --out stores/2mm --spacing-mm 2
    maesil prepare lists/4mm.json --out stores/4mm --spacing-mm 4 --labels --label-names SCANS/openkbp/label_names.json
    maesil prepare lists/sarcoma.json --out stores/sarcoma --spacing-mm 2 --labels

SCANS is the folder that contains the files named in `split.json`. `lists/sarcoma.json` has only the limbs of
`lists/2mm.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maesil.datasets.manifest import write_manifest
from maesil.datasets.scan import Scan

SPLIT = Path(__file__).with_name("split.json")


def main() -> None:
    """Writes one list per store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", type=Path, help="folder that contains the scans")
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists")
    words = parser.parse_args()
    groups = json.loads(SPLIT.read_text(encoding="utf-8"))["groups"]
    chosen = {store: [group for group in groups if group["store"] == store] for store in ("2mm", "4mm")}
    chosen["sarcoma"] = [group for group in groups if group["dataset"] == "extremity"]
    for name, members in chosen.items():
        scans = [scan for group in members for scan in scans_of(group, words.scans)]
        write_manifest(words.out / f"{name}.json", scans, {}, {})
        print(f"{words.out / name}.json: {len(scans)} scans")


def scans_of(group: Mapping[str, Any], root: Path) -> Iterator[Scan]:
    """Yields the scans of one group of patients, with its split."""
    for patient, sources in group["patients"].items():
        for source in sources:
            path = (root / source).resolve()
            name = patient if path.is_dir() else path.name.removesuffix(".nii.gz")
            files = tuple(sorted(path.rglob("*.dcm"))) if path.is_dir() else (path,)
            folder = files[0].parent if path.is_dir() else path
            yield Scan(
                name,
                group["dataset"],
                patient,
                folder,
                files=files,
                shown=source,
                split=group["split"],
                labels=labels_of(path),
            )


def labels_of(scan: Path) -> tuple[Path, ...]:
    """The label file beside a scan, if there is one; `maesil prepare` ignores it unless it is called with --labels."""
    stem = scan.name.removesuffix(".nii.gz")
    beside = [scan.with_name(f"{stem}_{kind}.nii.gz") for kind in ("labels", "tumour")]
    return tuple(path for path in beside if path.is_file())


if __name__ == "__main__":
    main()
