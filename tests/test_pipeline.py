"""The public functions take paths as strings, too."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig
from maesil.ct.write import is_marked
from maesil.errors import ConfigError
from maesil.evaluation.protocol import Protocol
from maesil.store.prepare import PrepareConfig
from maesil.store.scanstore import ScanStore


@pytest.mark.parametrize("name", [name for name in pipeline.__all__ if inspect.isfunction(getattr(pipeline, name))])
def test_pipeline__every_path_may_be_a_string(name: str) -> None:
    parameters = inspect.signature(getattr(pipeline, name)).parameters.values()
    only_paths = re.compile(r"(?<!Any)(?<!str \| )\bPath\b")
    assert [each.name for each in parameters if only_paths.search(str(each.annotation))] == []


TOLD_OTHERWISE = {"demo"}
"""Functions that take long and show what they do on a console."""
AT_ONCE = {"check", "doctor", "export", "masks", "publish", "similar", "view", "write_table1"}
"""Functions of one scan, one file or one page, without items to count."""


@pytest.mark.parametrize("name", [name for name in pipeline.__all__ if inspect.isfunction(getattr(pipeline, name))])
def test_pipeline__what_takes_long_reports_progress(name: str) -> None:
    parameters = inspect.signature(getattr(pipeline, name)).parameters
    assert ("progress" in parameters) is (name not in TOLD_OTHERWISE | AT_ONCE)


def test_pipeline__type_checkers_see_what_is_imported() -> None:
    """The names are listed for `import *`, for type checkers, and for the import on first use."""
    tree = ast.parse(inspect.getsource(pipeline))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        each.asname or each.name: (node.module, each.name)
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    }
    assert set(imported) == set(pipeline.__all__) == set(dir(pipeline))
    assert {name: getattr(import_module(str(where)), there) for name, (where, there) in imported.items()} == {
        name: getattr(pipeline, name) for name in pipeline.__all__
    }


def test_pipeline__from_scans_to_a_page_with_strings(tiny_config: RunConfig, scans: Path, tmp_path: Path) -> None:
    store, run, table = (str(tmp_path / name) for name in ("store", "run", "features.csv"))
    pipeline.datasets(str(scans), out=str(tmp_path / "list.json"))
    pipeline.prepare(str(scans), store, PrepareConfig(spacing_mm=2.0, salt="test"), workers=0)
    data = replace(tiny_config.data, store=store)  # type: ignore[arg-type]
    config = replace(tiny_config, data=data, train=replace(tiny_config.train, steps=1))
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, name: str) -> None:
        told.append((done, total, name))

    pipeline.pretrain(config, run, progress=progress)
    assert [(done, total) for done, total, _ in told] == [(1, 1)]
    pipeline.evaluate(run, store=store, protocol=Protocol(lpips=None, mask_draws=1), json_path=str(tmp_path / "s.json"))
    assert pipeline.report(run, store=store, out=str(tmp_path / "page.html")) == tmp_path / "page.html"
    told.clear()
    rebuilt, mask = pipeline.reconstruct(run, str(scans / "a.nii.gz"), str(tmp_path / "a.nii.gz"), progress=progress)
    assert is_marked(rebuilt)
    assert is_marked(mask)
    assert told[0][0] == 0
    assert "superpatches" in told[0][2]
    assert told[-1][0] == told[-1][1] == told[0][1]
    told.clear()
    assert pipeline.store("check", store, progress=progress) == {}
    assert [done for done, _, _ in told] == [1, 2, 3, 4]
    separate, _ = pipeline.reconstruct(run, str(scans / "a.nii.gz"), str(tmp_path / "b.nii.gz"), whole_scan=False)
    assert rebuilt.read_bytes() != separate.read_bytes()
    for flags, same in (((), rebuilt), (("--no-whole-scan",), separate)):
        words = ["reconstruct", str(run), str(scans / "a.nii.gz"), "--out", str(tmp_path / "c.nii.gz"), *flags]
        assert main(words) == 0
        assert (tmp_path / "c.nii.gz").read_bytes() == same.read_bytes()
    before = rebuilt.read_bytes()
    with pytest.raises(ConfigError, match="the scan's own"):
        pipeline.reconstruct(run, rebuilt, rebuilt)
    assert rebuilt.read_bytes() == before
    pipeline.embed(run, store, table)
    scan = ScanStore(store).entries[0].scan_id
    assert len(pipeline.similar(table, scan)) == 3
    pipeline.export(run, "safetensors", str(tmp_path / "exported"))
    pipeline.masks(str(tmp_path / "masks.png"), grid=(4, 4, 4))
