"""The demo's own code on synthetic CT, a few steps long; `make demo` runs the rest on the real scan."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from maesil.cli import main
from maesil.ct.phantom import phantom as synthetic_ct


@pytest.mark.slow
def test_demo__runs_the_whole_path_without_network_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A quarter of the demo's phantoms: two evaluations under eight mask draws are most of this test.
    monkeypatch.setattr("maesil.demo.synthetic_ct", partial(synthetic_ct, shape=(96, 112, 112)))
    words = ["demo", "--phantom", "--steps", "6", "--out", str(tmp_path / "demo")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "interpolation" in printed.out
    assert "How to read it" in printed.err
    assert str(tmp_path / "demo" / "run" / "report.html") in printed.out
    assert (tmp_path / "demo" / "run" / "report.html").is_file()
    assert main([*words, "--json"]) == 0  # everything is there: nothing is trained again
    printed = capsys.readouterr()
    assert "already there" in printed.err
    assert json.loads(printed.out)["page"] == str(tmp_path / "demo" / "run" / "report.html")


def test_demo__refuses_no_steps_before_it_fetches_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--steps", "0", "--out", str(tmp_path / "demo")]) == 2
    assert "--steps is 0" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
