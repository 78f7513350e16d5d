from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maesil.errors import CheckpointError
from maesil.runs.checkpoints import checkpoint_of


def folder(path: Path, **files: Any) -> Path:
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(("kind", "command"), [("pre-training", "pretrain"), ("segmentation", "finetune segmentation")])
def test_checkpoint_of__no_run_names_the_command_that_makes_one(kind: str, command: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"(?s)does not exist.*`maesil {command}` wrote"):
        checkpoint_of(tmp_path / "nowhere", kind=kind)


def test_checkpoint_of__an_exported_encoder(tmp_path: Path) -> None:
    exported = folder(tmp_path / "out", transfer={}, config={"hidden_size": 24})
    with pytest.raises(CheckpointError, match="an exported encoder, not a pre-training run"):
        checkpoint_of(exported)


def test_checkpoint_of__a_model_of_another_library(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no settings of a run"):
        checkpoint_of(folder(tmp_path / "vit", config={"hidden_size": 24}))


@pytest.mark.parametrize("kind", ["segmentation", "a kind to come"])
def test_checkpoint_of__another_kind_of_run(kind: str, tmp_path: Path) -> None:
    run = folder(tmp_path / "run", config={"kind": kind, "config": {"init": "my runs/base"}})
    with pytest.raises(CheckpointError, match=f"this is a {kind} run, not a pre-training run") as refused:
        checkpoint_of(run)
    assert "started from: 'my runs/base'" in str(refused.value)
    assert checkpoint_of(run, kind=kind)[0] == run
    (run / "config.json").write_text(json.dumps({"kind": kind, "config": {}}))
    (run / "config.yaml").write_text("init: /runs/base\n")
    with pytest.raises(CheckpointError, match="started from: /runs/base"):
        checkpoint_of(run)


def test_checkpoint_of__a_classification(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"settings": {"init": "base"}}))
    with pytest.raises(CheckpointError, match="this is a classification run, not a pre-training run"):
        checkpoint_of(run)
    (run / "checkpoints").mkdir()
    last = folder(run / "checkpoints" / "last", config={"config": {}})
    assert checkpoint_of(run)[0] == last, "an earlier version wrote the classification into the run"
