"""Every file that names the version names the same one, and the package has all of its files."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import maesil

ROOT = Path(__file__).parents[1]
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SECTIONS = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_version__is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert SECTIONS[0] == "Unreleased"
    assert SECTIONS[1] == f"{maesil.__version__} ({citation['date-released']})"
    assert SETUP["project"]["version"] == citation["version"] == maesil.__version__


def test_package__has_every_file_that_is_not_python() -> None:
    """A wheel has what `package-data` names; one that it forgets is missing only for those who install it."""
    package = ROOT / "src" / "maesil"
    listed = subprocess.run(["git", "-C", str(package), "ls-files"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    patterns = SETUP["tool"]["setuptools"]["package-data"]["maesil"]
    packed = {path.relative_to(package).as_posix() for pattern in patterns for path in package.glob(pattern)}
    others = {name for name in listed.stdout.splitlines() if not name.endswith(".py")}
    assert others - packed == set()


def test_dependencies__all_have_a_lowest_version() -> None:
    """`LOWEST=1 make dist` tries them."""
    for needed in SETUP["project"]["dependencies"]:
        assert re.search(r">=[\d.]+$", needed), needed
