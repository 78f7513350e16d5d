"""Settings in an output folder, and the error for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maesil.errors import ConfigError
from maesil.runs.claim import LONGEST, claim, differences_text


def refused(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> str:
    claim(folder / "config.yaml", before, holds="a run", fix="give another")
    with pytest.raises(ConfigError, match="contains a run with other settings") as told:
        claim(folder / "config.yaml", now, holds="a run", fix="give another")
    return told.value.what.partition("settings: ")[2]


def test_claim__names_both_values_of_nested_settings(tmp_path: Path) -> None:
    before = {"seed": 0, "model": {"head": "linear", "depth": 4, "name": "x"}, "init": None, "axes": []}
    now = {"seed": 0, "model": {"head": "overlap", "depth": 4}, "init": "run", "axes": [0, 2]}
    assert refused(tmp_path, before, now) == (
        "model.head is linear there, overlap here; init is none there, run here; axes is empty there, 0 2 here; "
        "model.name is x there, not recorded here"
    )


def test_claim__names_five_and_counts_the_others(tmp_path: Path) -> None:
    said = refused(tmp_path, dict.fromkeys("abcdefg", 1), dict.fromkeys("abcdefg", 2))
    assert said.endswith("e is 1 there, 2 here and 2 more")


def test_differences_text__shows_where_long_values_differ() -> None:
    words = "errors are measured in the window from -1000 to 1000 HU, of all voxels, "
    said = differences_text({"protocol": (f"{words}2 masks" + " x" * 99, f"{words}3 masks")})
    before, now = said.removeprefix("protocol is ").removesuffix(" here").split(" there, ")
    assert before.startswith("... 2 masks x x")
    assert before.endswith(" ...")
    assert len(before) <= LONGEST
    assert now == "... 3 masks"
    home = "/home/somebody/with/a/long/path/to/all/of/their/results/of/many/years"
    assert differences_text({"store": (f"{home}/a", f"{home}/b")}) == "store is .../a there, .../b here"


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        ([f"rib_{n}" for n in range(20)], [f"rib_{n}" for n in range(21)], ("... rib_19", "... rib_19 rib_20")),
        ("/home/somebody" * 5, "/home/somebody" * 5 + "/b", (".../somebody", ".../somebody/b")),
        ("C:\\Users\\" + "x\\" * 40 + "a", "C:\\Users\\" + "x\\" * 40 + "b", ("...\\a", "...\\b")),
        ("f" * 70 + "1", "f" * 70 + "2", (f"...{'f' * 30}1", f"...{'f' * 30}2")),
    ],
    ids=["one more", "a folder above", "Windows", "one word"],
)
def test_differences_text__long_values_never_read_alike(before: Any, now: Any, shown: tuple[str, str]) -> None:
    assert differences_text({"key": (before, now)}) == "key is {} there, {} here".format(*shown)
