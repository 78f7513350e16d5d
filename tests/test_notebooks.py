"""The notebooks run from the first cell to the last, on a synthetic scan and for a few steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from maesil.ct import sample
from maesil.ct.phantom import phantom
from maesil.ct.write import write_nifti

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SHORT = {
    "pretrain_and_look.ipynb": "STEPS = 2\nFOLDER = 'notebook'",
    "embed_and_find_similar.ipynb": "ENCODER, STORE, OUT = 'notebook/run', 'notebook/store', 'features.parquet'",
    "finetune_with_few_labels.ipynb": "PRETRAIN_STEPS, FINETUNE_STEPS, FOLDER, EDGE = 2, 2, 'labelled', 64",
}
"""What the cell of parameters holds in the test, in the order in which the notebooks build on each other."""


def cells(name: str) -> list[dict[str, Any]]:
    return list(json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"])


def code(name: str) -> Iterator[str]:
    """The code of a notebook, with the test's parameters."""
    for cell in cells(name):
        if cell["cell_type"] == "code":
            yield SHORT[name] if "parameters" in cell["metadata"].get("tags", []) else "".join(cell["source"])


def test_notebooks__are_all_run() -> None:
    assert sorted(SHORT) == sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    write_nifti(folder / "scan.nii.gz", phantom(0, (64, 64, 64), (4.0, 4.0, 4.0)).volume)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_notebook__runs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sample, "sample_ct", lambda: folder / "scan.nii.gz")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(code(name)):
        exec(compile(block, f"{name}, cell {number}", "exec", dont_inherit=True), names)
    plt.close("all")


@pytest.mark.parametrize("name", SHORT)
def test_notebook__is_committed_with_small_outputs(name: str) -> None:
    assert (NOTEBOOKS / name).stat().st_size < 600_000
    run = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in run), "run `make notebooks`"
    assert not [out for cell in run for out in cell["outputs"] if out["output_type"] == "error"]
