"""Damages headers at random, reproducibly, and counts what the readers do with them: read, or refuse.

    python -m foreign.fuzz --runs 2000        (make fuzz; tests/ must be on the path)

Anything but a volume or a `ScanError`, and any file that takes longer than a few seconds, is a failure.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dicom_slices import write_slice
from foreign import HU
from foreign.nifti import nifti
from foreign.text_headers import meta, meta_header, nrrd
from maesil.ct.readers import read, reader_of
from maesil.errors import ConfigError, MissingExtraError, ScanError

SLOWEST_S = 20.0
"""Longest time for one small file; a hang on a busy machine is longer."""
NASTY = [
    b"-1",
    b"0",
    b"nan",
    b"inf",
    b"1e309",
    b"99999999999999999999",
    b"",
    b"(",
    b"none",
    b"\xff\xfe",
    b"%n%s",
    b"LIST",
]
NASTY += [b"-9223372036854775808", b"2147483648", b"../../..", b"/dev/zero", b"\n\n", b"=", b":", b"\0"]


@dataclass
class Campaign:
    """What became of the damaged files.

    Attributes:
        read: Number of files that gave a volume.
        refused: Number of refusals, by reason.
        failures: Number of the run and traceback, where a reader did anything else.
        slowest_s: Time of the slowest file.
    """

    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def sound_files(folder: Path) -> list[Path]:
    """Small sound files of all formats, to be damaged."""
    makers: dict[str, Callable[[Path], None]] = {
        "v.nii": lambda home: nifti(home, qform=True),
        "v.nii.gz": lambda home: nifti(home, "v.nii.gz"),
        "v.nrrd": nrrd,
        "v.mha": meta,
        "v.mhd": lambda home: (home / "v.mhd").write_bytes(meta_header({"ElementDataFile": "v.raw"})) and None,
    }
    for name, make in makers.items():
        (folder / name.replace(".", "_")).mkdir()
        make(folder / name.replace(".", "_"))
    (folder / "v_mhd" / "v.raw").write_bytes(HU.astype("<i2").tobytes())
    series = folder / "series"
    series.mkdir()
    for index, plane in enumerate(HU):
        write_slice(series / f"{index}.dcm", plane, index, {"SeriesInstanceUID": "1.2.3", "PatientID": "p"})
    return [*(folder / name.replace(".", "_") / name for name in makers), series / "3.dcm"]


def damaged(raw: bytes, random: np.random.Generator, header: int) -> bytes:
    """The bytes with one to four faults, most of them in the header."""
    data = bytearray(raw)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(0, max(1, min(header, len(data)))))
        kind = random.integers(0, 7)
        if kind == 0:
            data[at : at + 1] = bytes([int(random.integers(0, 256))])
        elif kind == 1:
            data[at : at + 1] = bytes([data[at] ^ (1 << int(random.integers(0, 8)))]) if at < len(data) else b""
        elif kind == 2:
            data[at : at + 4] = random.choice(np.array([0, -1, 1, 2**31 - 1, -(2**31), 65535], "<i4")).tobytes()
        elif kind == 3:
            data[at : at + 4] = random.choice(np.array([np.nan, np.inf, -1, 1e38, 1e-38], "<f4")).tobytes()
        elif kind == 4:
            data[at : at + int(random.integers(0, 9))] = NASTY[int(random.integers(0, len(NASTY)))]
        elif kind == 5:
            del data[at : at + int(random.integers(1, 60))]
        else:
            del data[int(random.integers(0, len(data) + 1)) :]
        if not data:
            break
    return bytes(data)


def campaign(runs: int, seed: int, progress: Callable[[int], None] = lambda done: None) -> Campaign:
    """Damages `runs` files, one after the other, and gives each to its reader: `read` and `facts`."""
    done, random = Campaign(), np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = sound_files(Path(home))
        originals = {path: path.read_bytes() for path in files}
        for run in range(runs):
            path = files[run % len(files)]
            path.write_bytes(_damaged_file(path, originals[path], random))
            _attempt(path, run, done)
            path.write_bytes(originals[path])
            progress(run + 1)
    return done


def _damaged_file(path: Path, raw: bytes, random: np.random.Generator) -> bytes:
    if path.suffix == ".gz" and random.integers(0, 2):  # the header inside, or the compressed bytes
        return gzip.compress(damaged(gzip.decompress(raw), random, 360), 1, mtime=0)
    return damaged(raw, random, len(raw) if path.suffix == ".gz" else 900)


def _attempt(path: Path, run: int, done: Campaign) -> None:
    source = path.parent if path.suffix == ".dcm" else path
    begun = time.monotonic()
    try:
        read(source)
        done.read += 1
    except (ScanError, ConfigError, MissingExtraError) as error:
        done.refused[error.what.split(":")[0]] += 1
        if not str(error) or "please report" in str(error):
            done.failures.append(f"run {run}, {path.name}: {error}")
    except Exception:
        done.failures.append(f"run {run}, {path.name}: {traceback.format_exc()}")
    try:
        reader = reader_of(path)
        reader.facts(reader.files(path))
    except Exception as error:  # the caller of `facts` converts a library's exceptions
        if isinstance(error, (RecursionError, AssertionError)):
            done.failures.append(f"run {run}, {path.name}: {traceback.format_exc()}")
    took = time.monotonic() - begun
    done.slowest_s = max(done.slowest_s, took)
    if took > SLOWEST_S:
        done.failures.append(f"run {run}, {path.name}: took {took:.0f} s")


def main(words: Sequence[str] | None = None) -> int:
    """Runs a campaign and prints its counts; exit status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    done = campaign(given.runs, given.seed)
    refused = sum(done.refused.values())
    print(f"{given.runs} damaged files (seed {given.seed}): {done.read} read, {refused} refused for")  # noqa: T201
    print(f"{len(done.refused)} reasons, {len(done.failures)} failures, slowest {done.slowest_s:.1f} s")  # noqa: T201
    for failure in done.failures:
        print(failure)  # noqa: T201
    return 1 if done.failures else 0


if __name__ == "__main__":
    sys.exit(main())
