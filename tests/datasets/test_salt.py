from __future__ import annotations

import re
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maesil.datasets import salt as salts
from maesil.datasets.salt import hashed, kept_salt, salt_check
from maesil.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(salts, "salt_path", lambda: tmp_path / "configuration" / "salt")
    return tmp_path / "configuration"


def test_hashed__depends_on_salt_kind_and_value() -> None:
    names = {hashed(salt, kind, value) for salt in "ab" for kind in ("scan", "patient") for value in ("1", "2")}
    assert len(names) == 8
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    assert hashed("a", "scan", "1") == hashed("a", "scan", "1")


def test_salt_check__tells_salts_apart_without_telling_them() -> None:
    assert salt_check("secret") == salt_check("secret") != salt_check("other")
    assert "secret" not in salt_check("secret")


def test_kept_salt__is_made_once_and_kept(home: Path) -> None:
    first = kept_salt()
    assert len(first) == 64
    assert kept_salt() == first
    assert [path.name for path in home.iterdir()] == ["salt"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_kept_salt__is_for_the_user_alone(home: Path) -> None:
    kept_salt()
    assert stat.S_IMODE((home / "salt").stat().st_mode) == 0o600


def test_kept_salt__processes_that_start_together_agree(home: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: kept_salt(), range(32)))) == 1


def test_kept_salt__says_where_it_cannot_be_kept(home: Path) -> None:
    home.write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="cannot be read or written") as raised:
        kept_salt()
    assert "--salt" in str(raised.value)


def test_kept_salt__refuses_an_empty_file(home: Path) -> None:
    home.mkdir()
    (home / "salt").write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        kept_salt()
