"""Several stores in one run: one order of draws, splits and records over all, each with its own voxels."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import blob
from maesil import pipeline
from maesil.cli import main
from maesil.config import RunConfig, load_yaml
from maesil.ct.write import write_nifti
from maesil.errors import ConfigError, StoreError
from maesil.evaluation.protocol import Protocol
from maesil.runs.load import load_run
from maesil.sampling.config import DataConfig
from maesil.sampling.plan import make_plan
from maesil.sampling.regions import regions_of
from maesil.seen import seen_patients
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore


@pytest.fixture(scope="module")
def coarse(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two more scans at 1.6 mm in small shards; one has the name of a scan of `tiny_store`."""
    folder = tmp_path_factory.mktemp("more")
    (folder / "scans").mkdir()
    for seed, name in ((7, "a"), (8, "e")):
        write_nifti(folder / "scans" / f"{name}.nii.gz", blob(seed))
    dataset = ScanStore(tiny_store).entries[0].dataset
    settings = PrepareConfig(spacing_mm=1.6, salt="test", chunk=16, shard=32, dataset=dataset)
    assert len(prepare([folder / "scans"], folder / "coarse", settings, workers=0).prepared) == 2
    return folder / "coarse"


def test_scan_store__reads_each_scan_from_its_own_store(tiny_store: Path, coarse: Path) -> None:
    both, first, second = ScanStore([tiny_store, coarse]), ScanStore(tiny_store), ScanStore(coarse)
    names = [entry.scan_id for entry in both.entries]
    assert len(names) == len(set(names)) == 6
    (taken,) = (name for name in names if name.startswith("2."))
    for store, own in ((first, 0), (second, 1)):
        for entry in store.entries:
            name = f"{own + 1}.{entry.scan_id}"
            name = name if name in names else entry.scan_id
            assert both.entry(name).store == own
            np.testing.assert_array_equal(both.volume(name).array, store.volume(entry.scan_id).array)
            np.testing.assert_array_equal(both.occupancy(name), store.occupancy(entry.scan_id))
            assert both.entry(name).spacing_mm == entry.spacing_mm
    assert both.entry(taken).store == 1
    sent = pickle.loads(pickle.dumps(both))
    np.testing.assert_array_equal(sent.volume(taken).array, both.volume(taken).array)
    with pytest.raises(StoreError, match="no store here"):
        ScanStore([tiny_store, coarse / "nothing"])


def test_plan__draws_from_the_stores_by_their_weights(tiny_store: Path, coarse: Path) -> None:
    def drawn(weights: tuple[float, ...] | None) -> Counter[int]:
        config = DataConfig(store=(tiny_store, coarse), store_weights=weights)
        store = ScanStore(config.stores)
        config = replace(config, holdout=replace(config.holdout, by="superpatch"))
        plan = make_plan(regions_of(store, config, (32, 32, 32), "train"), config, seed=3)
        assert [plan.place(n) for n in (5, 900)] == [plan.place(n) for n in (5, 900)]
        return Counter(store.entry(plan.place(n).scan_id).store for n in range(1000))

    assert 0.87 < drawn((9.0, 1.0))[0] / 1000 < 0.93
    assert 0.45 < drawn((1.0, 1.0))[0] / 1000 < 0.55
    assert drawn(None) != drawn((1.0, 1.0))


def test_data_config__refuses_weights_that_do_not_fit(tiny_store: Path) -> None:
    with pytest.raises(ConfigError, match="2 weights for 1 store"):
        DataConfig(store=tiny_store, store_weights=(1.0, 2.0))
    with pytest.raises(ConfigError, match="stores cannot be weighted"):
        DataConfig(store=(tiny_store, tiny_store), store_weights=(1.0, 2.0), sampling="grid")
    with pytest.raises(ConfigError, match="this takes one store, not 2"):
        DataConfig(store=(tiny_store, tiny_store)).only_store("")


def test_pretrain__on_two_stores_by_the_command(
    tiny_config: RunConfig, tiny_store: Path, coarse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what is mixed, gives the same weights again, and is scored on all stores and on each."""
    data = replace(tiny_config.data, store=(tiny_store, coarse), store_weights=(1.0, 2.0))
    config = replace(tiny_config, data=data, train=replace(tiny_config.train, steps=4))
    whole = tmp_path / "whole"
    pipeline.pretrain(config, whole)
    words = ["--config", str(whole / "config.yaml"), "--run", str(tmp_path / "cut")]
    assert load_yaml(whole / "config.yaml").data.stores == (tiny_store.resolve(), coarse.resolve())
    assert main(["pretrain", *words]) == 0
    said = capsys.readouterr().err
    assert "2 mm isotropic" in said
    assert "1.6 mm isotropic" in said
    first, second = load_run(whole), load_run(tmp_path / "cut")
    for name, tensor in first.model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), second.model.state_dict()[name].numpy())
    assert [each["spacing_mm"] for each in first.record["prepare"]["also"]] == [1.6]
    seen = seen_patients(first.record["seen"], ScanStore(coarse).entries)
    assert seen == {entry.patient for entry in ScanStore(coarse).entries}
    protocol = Protocol(lpips=None, mask_draws=1)
    table = pipeline.evaluate(whole, protocol=protocol).table
    assert "spacing 2 mm and spacing 1.6 mm" in table
    assert pipeline.evaluate(whole, store=tiny_store, protocol=protocol).scores
    both = [str(tiny_store), str(coarse)]
    words = ["--protocol.lpips", "None", "--protocol.mask-draws", "1", "--data.store", *both]
    assert main(["evaluate", str(whole), *words]) == 0
    assert "spacing 2 mm and spacing 1.6 mm" in capsys.readouterr().out
    assert main(["report", str(whole), "--data.store", *both]) == 0
    assert "spacing 1.6 mm" in (whole / "report.html").read_text(encoding="utf-8")
    pipeline.embed(whole, coarse, tmp_path / "features.csv")
    assert (tmp_path / "features.csv").is_file()
    capsys.readouterr()
    assert main(["pretrain", "--run", str(whole), "--train.steps", "5"]) == 0
    assert "resumed at step 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["finetune segmentation --init RUN --run out", "compare-transfer --init RUN --scans 1 --out out"]
)
def test_only_store__tasks_of_one_store_refuse_several(
    words: str, tiny_config: RunConfig, tiny_store: Path, coarse: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=1)), tmp_path / "run")
    call = [*words.replace("RUN", "run").split(), "--data.store", str(tiny_store), str(coarse)]
    assert main(call) == 2
    assert "this takes one store, not 2" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out" / "index.html").exists()
