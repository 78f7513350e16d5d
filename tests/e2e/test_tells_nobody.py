"""No output repeats a header: every string and number that is written is compared with every value of hostile DICOM."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from conftest import TINY_MODEL
from hostile_dicom import header_values, write_hostile
from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig
from maesil.evaluation.protocol import Protocol
from maesil.sampling.config import DataConfig
from maesil.training.config import EfficiencyConfig, MonitorConfig, TrainConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass(frozen=True)
class Made:
    sources: Path
    outputs: Path
    said: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Hostile scans, and all that the commands make of them: a store, a run with its page, an export, features."""
    home = tmp_path_factory.mktemp("tells")
    sources, outputs = home / "scans", home / "outputs"
    write_hostile(sources)
    said = _said(
        home, ["prepare", str(sources), "--out", str(outputs / "store"), "--spacing-mm", "2", "--workers", "0"]
    )
    said += _said(home, ["datasets", str(sources)])
    config = replace(
        RunConfig(),
        data=DataConfig(store=outputs / "store", padded_crops=True),
        model=TINY_MODEL,
        train=TrainConfig(steps=2, batch=2),
        monitor=MonitorConfig(validate_every=1, checkpoint_every=1, image_every=1, log_every=1),
        efficiency=EfficiencyConfig(accelerator="cpu", precision="32-true", threads=1),
    )
    pipeline.pretrain(config, outputs / "run")
    pipeline.evaluate(outputs / "run", protocol=Protocol(lpips=None, mask_draws=1))
    pipeline.report(outputs / "run")
    pipeline.export(outputs / "run", "safetensors", outputs / "export")
    pipeline.embed(outputs / "run", outputs / "store", outputs / "features.csv")
    return Made(sources, outputs, said)


def _said(home: Path, words: list[str]) -> str:
    """What a command says on both channels."""
    from contextlib import redirect_stderr, redirect_stdout

    with (home / "said").open("w+") as file, redirect_stdout(file), redirect_stderr(file):
        main(words)
        file.seek(0)
        return file.read()


def plain(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def words_of(value: Any) -> Iterator[str]:
    """Every string and number of a JSON value, keys, too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from words_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words_of(inner)
    elif value is not None:
        yield str(value)


def written(outputs: Path) -> Iterator[tuple[str, str]]:
    """Every string and number below a folder: names, words of texts, texts in files that are none; no images."""
    for path in sorted(outputs.rglob("*")):
        place = str(path.relative_to(outputs))
        yield from ((place, part) for part in path.relative_to(outputs).parts)
        if not path.is_file() or "/c/" in place:
            continue
        content = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            texts = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
            yield from ((place, word) for text in texts if text for word in words_of(json.loads(text)))
        else:
            binary = b"\0" in content  # of random bytes, short words mean nothing
            for run in re.findall(rb"[\x20-\x7e]{6,}", content):
                words = (run.decode(), *re.split(r"[\s\"'<>,;:()\[\]{}=]+", run.decode()))
                yield from ((place, word) for word in words if (6 if binary else 1) < len(word) < 200)


def told(pieces: Iterator[tuple[str, str]], secrets: dict[str, str]) -> set[tuple[str, str, str]]:
    """The pieces that are a secret, or contain one of six characters or more."""
    of_place: dict[str, set[str]] = {}
    for place, piece in pieces:
        of_place.setdefault(place, set()).add(plain(piece))
    long = {secret: tag for secret, tag in secrets.items() if len(secret) >= 6}
    found = {(place, piece, secrets[piece]) for place, pieces in of_place.items() for piece in pieces & secrets.keys()}
    for place, pieces in of_place.items():
        everything = "\n".join(pieces)
        found |= {(place, secret, tag) for secret, tag in long.items() if secret in everything}
    return found


@pytest.fixture(scope="module")
def secrets(made: Made) -> dict[str, str]:
    """Every value of the headers without marks, the words of names, and the parts of UIDs; with their tags."""
    secrets: dict[str, str] = {}
    for tag, text in header_values(made.sources):
        parts = [text, *(re.split(r"[\^\s]+", text) if tag.endswith("Name") else [])]
        parts += [part for part in text.split(".") if len(part) > 4] if tag.endswith("UID") else []
        secrets |= {plain(part): tag for part in parts if len(plain(part)) >= 2}
        if tag.endswith("Date"):
            secrets |= {text[6:8] + text[4:6] + text[:4]: tag, text[4:8] + text[:4]: tag}
    for short in ("pat", "bo"):  # words of English, or in any text
        secrets.pop(short, None)
    return secrets


def test_outputs__repeat_no_value_of_a_header(made: Made, secrets: dict[str, str]) -> None:
    assert len(secrets) > 400
    manifest = json.loads((made.outputs / "store" / "manifest.json").read_text())
    assert len(manifest["scans"]) >= 4
    assert len((made.outputs / "store" / "quarantine.jsonl").read_text().splitlines()) >= 5
    pieces = (piece for piece in written(made.outputs) if not piece[0].endswith("names.private.csv"))
    assert told(pieces, secrets) == set()


def test_outputs__the_private_table_is_what_tells(made: Made, secrets: dict[str, str]) -> None:
    table = [piece for piece in written(made.outputs) if piece[0] == "store-names.private.csv"]
    assert len({tag for _, _, tag in told(iter(table), secrets)}) >= 3


def test_messages__repeat_no_value_of_a_header(made: Made, secrets: dict[str, str]) -> None:
    assert "names are hashes" in made.said
    assert told((("said", word) for word in re.split(r"[\s\"'(),;:/]+", made.said)), secrets) == set()


def test_check_privacy__agrees(made: Made) -> None:
    check = pipeline.check_privacy(made.outputs, made.sources)
    assert {one.place for one in check.repeated} == {"store-names.private.csv"}
    assert len(check.repeated) >= 3
    assert check.values > 200
