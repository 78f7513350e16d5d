from __future__ import annotations

import hashlib
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch

from http_server import served
from maesil.catalog import Catalog
from maesil.errors import DownloadError, UnknownNameError, WeightsError
from maesil.metrics import load_lpips
from maesil.metrics.weights import (
    FOLDER_VARIABLE,
    PARTS,
    digest,
    fetch_backbone,
    find_weights,
    read_weights,
    to_fetch,
)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights in any of the usual places."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    return tmp_path


def offline(*args: object, **kwargs: object) -> None:
    raise URLError("no network")


def test_read_weights__verifies_the_full_torchvision_file_by_its_features(weights_dir: Path, tmp_path: Path) -> None:
    full = torch.load(weights_dir / "alexnet_features.pth", weights_only=True)
    full["classifier.1.weight"] = torch.zeros(3, 3)
    torch.save(full, tmp_path / "alexnet-owt-7be5be79.pth")
    assert "0.weight" in read_weights("alex backbone", tmp_path)


def test_read_weights__refuses_other_values(weights_dir: Path, tmp_path: Path) -> None:
    state = torch.load(weights_dir / "squeezenet1_1_features.pth", weights_only=True)
    state["features.0.bias"][0] += 1e-5
    torch.save(state, tmp_path / "squeezenet1_1_features.pth")
    with pytest.raises(WeightsError, match="SHA-256 differs") as refused:
        read_weights("squeeze backbone", tmp_path)
    assert refused.value.where == str(tmp_path / "squeezenet1_1_features.pth")


def test_read_weights__refuses_a_file_that_would_run_code(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Path("x")}, tmp_path / "alexnet_features.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights("alex backbone", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_read_weights__refuses_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "alexnet_features.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights("alex backbone", tmp_path)


def test_load_lpips__says_what_is_missing_and_how_to_get_it(nowhere: Path) -> None:
    with pytest.raises(WeightsError, match="alex backbone") as missing:
        load_lpips("alex")
    assert missing.value.fix is not None
    assert "maesil doctor --fetch-lpips alex" in missing.value.fix
    assert FOLDER_VARIABLE in missing.value.fix


def test_load_lpips__without_network_is_a_weights_error(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(WeightsError, match="could not be fetched"):
        load_lpips("alex", fetch=True)


def test_load_lpips__finds_the_folder_the_environment_names(
    weights_dir: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(weights_dir))
    assert load_lpips("squeeze").net == "squeeze"


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_read_weights__of_heads_come_with_torchmetrics(nowhere: Path, net: str) -> None:
    heads = read_weights(f"{net} heads")
    assert heads["lin0.model.1.weight"].shape == (1, 64, 1, 1)
    path = find_weights(f"{net} heads")
    assert path is not None
    assert "torchmetrics" in path.parts


def test_find_weights__names_the_parts_it_knows() -> None:
    with pytest.raises(UnknownNameError, match="alxe"):
        find_weights("alxe backbone")


def test_fetch_backbone__asks_for_the_hash_and_verifies_the_values(
    weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(url: str, model_dir: str, **options: Any) -> dict[str, torch.Tensor]:
        asked.update(options, url=url)
        Path(model_dir).mkdir(exist_ok=True)
        target = Path(model_dir) / url.rsplit("/", 1)[1]
        shutil.copy(weights_dir / "squeezenet1_1_features.pth", target)
        state: dict[str, torch.Tensor] = torch.load(target, weights_only=True)
        return state

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    path = fetch_backbone("squeeze", tmp_path / "new")
    assert asked["check_hash"] is True
    assert asked["weights_only"] is True
    assert asked["url"].endswith("/squeezenet1_1-b8a52dc0.pth")
    assert find_weights("squeeze backbone", tmp_path / "new") == path


def test_fetch_backbone__without_network_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(DownloadError, match="could not be fetched") as failed:
        fetch_backbone("alex", tmp_path)
    assert failed.value.fix is not None
    assert FOLDER_VARIABLE in failed.value.fix


@pytest.mark.parametrize("damage", [b"", b"cut"])
def test_fetch_backbone__downloads_from_a_server_and_refuses_damage(
    weights_dir: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    """The download itself, from a server of our own: name, hash in the name, and values are checked."""
    content = (weights_dir / "squeezenet1_1_features.pth").read_bytes()
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (nowhere / name).write_bytes(content + damage)
    with served(nowhere) as server:
        part = replace(PARTS["squeeze backbone"], files=(name,), url=f"{server.address}/{name}")
        known = Catalog(PARTS.kind, {**PARTS, "squeeze backbone": part})
        monkeypatch.setattr("maesil.metrics.weights.PARTS", known)
        assert to_fetch("squeeze") == "the LPIPS squeeze backbone (5 MB, from 127.0.0.1)"
        if damage:
            with pytest.raises(WeightsError, match="could not be fetched"):
                load_lpips("squeeze", fetch=True)
        else:
            assert load_lpips("squeeze", fetch=True).net == "squeeze"
            assert to_fetch("squeeze") is None
    assert socket.getdefaulttimeout() is None


def test_fetch_backbone__gives_up_on_a_server_that_is_silent(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maesil.metrics.weights.SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/squeezenet1_1-b8a52dc0.pth"
        part = replace(PARTS["squeeze backbone"], url=url)
        known = Catalog(PARTS.kind, {**PARTS, "squeeze backbone": part})
        monkeypatch.setattr("maesil.metrics.weights.PARTS", known)
        began = time.monotonic()
        with pytest.raises(DownloadError, match="timed out"):
            fetch_backbone("squeeze")
    assert time.monotonic() - began < 10


def test_digest__depends_on_keys_shapes_and_values() -> None:
    base = {"a": torch.arange(6.0)}
    others = [{"b": torch.arange(6.0)}, {"a": torch.arange(6.0).view(2, 3)}, {"a": torch.arange(6.0) + 1}]
    assert len({digest(state) for state in [base, *others]}) == 4
    assert digest(base) == digest({"a": torch.arange(6)})
